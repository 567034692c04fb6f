"""Absolute counts: each class's percent of the analyser's white cells. Never without the analyser. Pure."""

from __future__ import annotations

from dataclasses import replace

from wbctool.settings import Limits
from wbctool.stages.differential import range_flag
from wbctool.types.cells import AbsoluteCount, AnalyzerCount, ClassCount, Differential
from wbctool.types.slides import SlideMetadata

ADULT_YEARS = 18


def resolve_limits(limits: Limits, metadata: SlideMetadata | None) -> Limits:
    """The limits of one slide: an age that is known says whether the ranges of adults hold, else the setting."""
    if metadata is None or metadata.age is None:
        return limits
    return limits.model_copy(update={"adult": metadata.age >= ADULT_YEARS})


def add_absolute_counts(differential: Differential, analyser_wbc: float | None, limits: Limits) -> Differential:
    """The differential with absolute counts, 10⁹/L, where the analyser's count is known; else as it is.

    The bounds are those of the percent: they cover the sampling of cells, not the analyser's own error.
    """
    if analyser_wbc is None:
        return differential
    nrbc = differential.nrbc_per_100_wbc if differential.nrbc_assessed else None
    is_corrected = limits.correct_wbc_for_nrbc and nrbc is not None
    wbc = correct_wbc(analyser_wbc, nrbc) if is_corrected and nrbc is not None else analyser_wbc
    return replace(
        differential,
        classes=tuple(_add_absolute_count(c, wbc, differential.counted, limits) for c in differential.classes),
        analyzer=AnalyzerCount(analyser_wbc, wbc, is_corrected, limits.absolute_source if limits.adult else ""),
    )


def correct_wbc(analyser_wbc: float, nrbc_per_100_wbc: float) -> float:
    """White cells alone, of an analyser that counts nucleated red cells with them: WBC × 100 / (100 + NRBC).

    analyser_wbc: 10⁹/L. nrbc_per_100_wbc: nucleated red cells per 100 white ones. Analysers that tell the two apart
    give the corrected count already: the setting correct_wbc_for_nrbc then is to be false.

    >>> correct_wbc(12.0, 20.0)
    10.0
    """
    return analyser_wbc * 100 / (100 + nrbc_per_100_wbc)


def _add_absolute_count(count: ClassCount, wbc: float, counted: int, limits: Limits) -> ClassCount:
    if count.percent is None or count.ci95_low is None or count.ci95_high is None:
        return count
    reference = limits.absolute_ranges.get(count.label) if limits.adult else None
    value = wbc * count.percent / 100
    absolute = AbsoluteCount(
        value=value,
        ci95_low=wbc * count.ci95_low / 100,
        ci95_high=wbc * count.ci95_high / 100,
        reference_low=reference[0] if reference else None,
        reference_high=reference[1] if reference else None,
        flag=range_flag(value, reference) if counted >= limits.low_count_below else "",
    )
    return replace(count, absolute=absolute)

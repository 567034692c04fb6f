"""Absolute counts: each class's percent of the white cell count of an analyzer."""

from __future__ import annotations

from dataclasses import replace

from wbctool.limits import Limits
from wbctool.stages.differential import range_flag
from wbctool.types.differential import AbsoluteCount, AnalyzerCount, ClassCount, Differential, Flag
from wbctool.types.slides import SlideMetadata

ADULT_YEARS = 18


def resolve_limits(limits: Limits, metadata: SlideMetadata | None) -> Limits:
    """Return the limits of one slide.

    The reference ranges hold for adults. A known age decides whether the patient is one, else the setting ``adult``.

    Args:
        limits: The limits of the run.
        metadata: The slide's row of slides.csv; None if it has none.

    Returns:
        The slide's limits.
    """
    if metadata is None or metadata.age is None:
        return limits
    return limits.model_copy(update={"adult": metadata.age >= ADULT_YEARS})


def add_absolute_counts(differential: Differential, analyser_wbc: float | None, limits: Limits) -> Differential:
    """Add absolute counts in 10⁹/L to a differential.

    Their confidence bounds are those of the percents: they cover the sampling of the classes, neither the analyzer's
    own error nor that of the correction for nucleated red cells.

    Args:
        differential: The differential in percent.
        analyser_wbc: The analyzer's white cell count, 10⁹/L; None if it is not known.
        limits: The slide's limits, with the reference ranges.

    Returns:
        The differential with absolute counts; unchanged without the analyzer's count.
    """
    if analyser_wbc is None:
        return differential
    nrbc = differential.nrbc_per_100_wbc if differential.nrbc_assessed else None
    is_corrected = limits.correct_wbc_for_nrbc and nrbc is not None
    wbc = correct_wbc(analyser_wbc, nrbc) if is_corrected and nrbc is not None else analyser_wbc
    can_interpret = not {Flag.LOW_COUNT, Flag.UNFAMILIAR} & set(differential.flags)
    return replace(
        differential,
        classes=tuple(_add_absolute_count(c, wbc, limits, can_interpret) for c in differential.classes),
        analyzer=AnalyzerCount(analyser_wbc, wbc, is_corrected, limits.absolute_source if limits.adult else ""),
    )


def correct_wbc(analyser_wbc: float, nrbc_per_100_wbc: float) -> float:
    """Correct an analyzer's white cell count for nucleated red cells: WBC × 100 / (100 + NRBC).

    The correction applies to analyzers that count nucleated red cells as white cells. Others give the corrected count
    already; for them the setting ``correct_wbc_for_nrbc`` must be false.

    Args:
        analyser_wbc: The analyzer's count, 10⁹/L.
        nrbc_per_100_wbc: Nucleated red cells per 100 white cells.

    Returns:
        The corrected count, 10⁹/L.

    >>> correct_wbc(12.0, 20.0)
    10.0
    """
    return analyser_wbc * 100 / (100 + nrbc_per_100_wbc)


def _add_absolute_count(count: ClassCount, wbc: float, limits: Limits, can_interpret: bool) -> ClassCount:
    """Add the absolute count of one class, if its percent is known."""
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
        flag=range_flag(value, reference) if can_interpret else "",
    )
    return replace(count, absolute=absolute)

"""The differential of a slide: counts, percents, exact confidence intervals and flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.limits import Limits
from wbctool.types.cells import Outcome, Prediction, Reason
from wbctool.types.differential import ClassCount, Differential, Flag


@dataclass(frozen=True, slots=True)
class _Tally:
    """The numbers that the flags of the cells depend on.

    Attributes:
        outcomes: The number of cells by outcome.
        reasons: The number of cells by reason.
        counted_classes: The number of counted cells by class.
        n_read: The number of fields that could be read.
    """

    outcomes: Counter[Outcome]
    reasons: Counter[Reason]
    counted_classes: Counter[CellClass]
    n_read: int

    @property
    def counted(self) -> int:
        """The number of counted cells."""
        return self.outcomes[Outcome.COUNTED]

    @property
    def review(self) -> int:
        """The number of cells in review."""
        return self.outcomes[Outcome.NEEDS_REVIEW]

    @property
    def erythroblasts(self) -> int:
        """The number of erythroblasts."""
        return self.reasons[Reason.ERYTHROBLAST]


_CELL_FLAG_CONDITIONS: Mapping[Flag, Callable[[_Tally, Limits], bool]] = {
    Flag.NO_WBC: lambda n, _: n.counted + n.review == 0 and n.n_read > 0,
    Flag.LOW_COUNT: lambda n, limits: n.counted < limits.low_count_below,
    Flag.LIMITED_COUNT: lambda n, limits: limits.low_count_below <= n.counted < limits.limited_count_below,
    Flag.HIGH_REVIEW_SHARE: lambda n, limits: n.review > limits.high_review_share * (n.counted + n.review),
    Flag.OUT_OF_DOMAIN: lambda n, limits: (
        n.reasons[Reason.OUT_OF_DISTRIBUTION] > limits.out_of_domain_share * n.outcomes.total()
    ),
    Flag.POSSIBLE_BLASTS: lambda n, limits: n.reasons[Reason.POSSIBLE_BLAST] >= limits.min_possible_blasts,
    Flag.IMMATURE_GRANULOCYTES: lambda n, limits: (
        n.counted_classes[CellClass.IMMATURE_GRANULOCYTE] >= limits.min_immature_granulocytes
    ),
    Flag.NRBC: lambda n, limits: n.erythroblasts >= limits.min_nrbc,
}
CELL_FLAGS = frozenset(_CELL_FLAG_CONDITIONS)
"""The flags that the cells raise, so that a review changes them; the others are of the fields or of the whole slide."""


def count_cells(
    predictions: Sequence[Prediction],
    model_classes: Collection[CellClass],
    limits: Limits,
    other_flags: Collection[Flag] = (),
    n_read: int = 1,
) -> Differential:
    """Count the cells of a slide and raise its flags.

    Args:
        predictions: The prediction of each cell.
        model_classes: The classes that the model knows; the others are not assessed.
        limits: The slide's limits, with the reference ranges.
        other_flags: The flags that depend on the fields or on the slide as a whole, such as ``failed_fields``.
        n_read: The number of fields that could be read. Without any, the flag ``no_wbc`` is not raised.

    Returns:
        The differential.
    """
    tally = _Tally(
        outcomes=Counter(p.outcome for p in predictions),
        reasons=Counter(p.reason for p in predictions),
        counted_classes=Counter(p.label for p in predictions if p.outcome is Outcome.COUNTED),
        n_read=n_read,
    )
    counted, review, erythroblasts = tally.counted, tally.review, tally.erythroblasts
    can_interpret = counted >= limits.low_count_below and Flag.UNFAMILIAR not in other_flags
    classes = tuple(
        _count_class(
            label,
            assessed=label in model_classes,
            n=tally.counted_classes[label],
            counted=counted,
            review=review,
            limits=limits,
            can_interpret=can_interpret,
        )
        for label in DIFFERENTIAL_CLASSES
    )
    flags = {flag for flag, is_raised in _CELL_FLAG_CONDITIONS.items() if is_raised(tally, limits)}
    return Differential(
        classes=classes,
        cells=len(predictions),
        counted=counted,
        review=review,
        not_wbc=tally.outcomes[Outcome.NOT_WBC],
        erythroblasts=erythroblasts,
        nrbc_per_100_wbc=100 * erythroblasts / counted if counted else None,
        nrbc_assessed=CellClass.ERYTHROBLAST in model_classes,
        flags=tuple(flag for flag in Flag if flag in flags or flag in other_flags),
    )


def clopper_pearson_interval(n: float, total: int) -> tuple[float, float]:
    """Compute the exact 95 % binomial confidence interval of a proportion, in percent.

    Args:
        n: The number of successes; not whole if it is an estimate.
        total: The number of trials, > 0.

    Returns:
        The lower and the upper bound, in percent.

    References:
        Clopper and Pearson 1934, Biometrika 26:404.
        The example is from Rümke's table for differentials.

    >>> tuple(round(bound, 1) for bound in clopper_pearson_interval(9, 100))
    (4.2, 16.4)
    """
    # late, as in wbctool.stages.classify; scipy.stats would take half a second to import
    from scipy.special import betaincinv

    tail = 0.025
    low = 0.0 if n == 0 else float(betaincinv(n, total - n + 1, tail))
    high = 1.0 if n == total else float(betaincinv(n + 1, total - n, 1 - tail))
    return 100 * low, 100 * high


def _count_class(
    label: CellClass, assessed: bool, n: int, counted: int, review: int, limits: Limits, can_interpret: bool
) -> ClassCount:
    """Compute the percent of one class, with its confidence bounds and its flag."""
    if not assessed:
        return ClassCount(label, False, n, None, None, None)
    total = counted + review
    percent = 100 * n / counted if counted else None
    low, high = clopper_pearson_interval(n, counted) if counted else (None, None)
    reference = limits.reference_ranges.get(label) if limits.adult else None
    return ClassCount(
        label=label,
        assessed=True,
        n=n,
        percent=percent,
        ci95_low=low,
        ci95_high=high,
        review_low=100 * n / total if total else None,
        review_high=100 * (n + review) / total if total else None,
        reference_low=reference[0] if reference else None,
        reference_high=reference[1] if reference else None,
        flag=range_flag(percent, reference) if can_interpret else "",
    )


def range_flag(value: float | None, reference: tuple[float, float] | None) -> str:
    """Return ``low`` or ``high`` for a value outside a reference range; empty inside it, or if there is none."""
    if value is None or reference is None:
        return ""
    low, high = reference
    return "low" if value < low else "high" if value > high else ""

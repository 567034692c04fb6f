"""The differential of a slide: counts, percents, exact confidence intervals and flags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.limits import Limits
from wbctool.types.cells import Outcome, Prediction, Reason
from wbctool.types.differential import ClassCount, Differential, Flag

# The flags that the cells raise; the others are of the fields or of the slide as a whole.
CELL_FLAGS = frozenset(
    {
        Flag.NO_WBC,
        Flag.LOW_COUNT,
        Flag.LIMITED_COUNT,
        Flag.HIGH_REVIEW_SHARE,
        Flag.OUT_OF_DOMAIN,
        Flag.POSSIBLE_BLASTS,
        Flag.IMMATURE_GRANULOCYTES,
        Flag.NRBC,
    }
)


def count_cells(
    predictions: Sequence[Prediction],
    model_classes: Collection[CellClass],
    limits: Limits,
    field_flags: Collection[Flag] = (),
    fields_read: int = 1,
) -> Differential:
    """Count the cells of a slide and raise its flags.

    Args:
        predictions: The prediction of each cell.
        model_classes: The classes that the model knows; the others are not assessed.
        limits: The slide's limits, with the reference ranges.
        field_flags: The flags that depend on the fields or on the slide as a whole, such as ``failed_fields``.
        fields_read: The number of fields that could be read. Without any, the flag ``no_wbc`` is not raised.

    Returns:
        The differential.
    """
    outcomes = Counter(p.outcome for p in predictions)
    counts = Counter(p.label for p in predictions if p.outcome is Outcome.COUNTED)
    erythroblasts = sum(p.reason is Reason.ERYTHROBLAST for p in predictions)
    possible_blasts = sum(p.reason is Reason.POSSIBLE_BLAST for p in predictions)
    out_of_domain = sum(p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions)
    counted, review = outcomes[Outcome.COUNTED], outcomes[Outcome.NEEDS_REVIEW]
    can_interpret = counted >= limits.low_count_below and Flag.UNFAMILIAR not in field_flags
    classes = tuple(
        _count_class(
            label,
            assessed=label in model_classes,
            n=counts[label],
            counted=counted,
            review=review,
            limits=limits,
            can_interpret=can_interpret,
        )
        for label in DIFFERENTIAL_CLASSES
    )
    flag_conditions = {
        Flag.NO_WBC: counted + review == 0 and fields_read > 0,
        Flag.LOW_COUNT: counted < limits.low_count_below,
        Flag.LIMITED_COUNT: limits.low_count_below <= counted < limits.limited_count_below,
        Flag.HIGH_REVIEW_SHARE: review > limits.high_review_share * (counted + review),
        Flag.OUT_OF_DOMAIN: out_of_domain > limits.out_of_domain_share * len(predictions),
        Flag.POSSIBLE_BLASTS: possible_blasts >= limits.min_possible_blasts,
        Flag.IMMATURE_GRANULOCYTES: counts[CellClass.IMMATURE_GRANULOCYTE] >= limits.min_immature_granulocytes,
        Flag.NRBC: erythroblasts >= limits.min_nrbc,
    }
    return Differential(
        classes=classes,
        cells=len(predictions),
        counted=counted,
        review=review,
        not_wbc=outcomes[Outcome.NOT_WBC],
        erythroblasts=erythroblasts,
        nrbc_per_100_wbc=100 * erythroblasts / counted if counted else None,
        nrbc_assessed=CellClass.ERYTHROBLAST in model_classes,
        flags=tuple(flag for flag in Flag if flag_conditions.get(flag) or flag in field_flags),
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

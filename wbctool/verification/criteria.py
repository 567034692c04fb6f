"""The criteria of a verification with their sources, and the conclusion drawn from them.

A criterion is met if the measured value meets it, and failed if even the better end of its 95 % interval does not. In
between, more cells would decide. The models fit if all criteria are met, and do not fit if one is failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from wbctool.evaluation.proportion import Proportion
from wbctool.limits import Limits
from wbctool.stages.differential import clopper_pearson_interval
from wbctool.text import replace_underscores
from wbctool.verification.agreement import BlandAltman, MeanDifference

MIN_CELLS = 100  # as many as in a routine differential (CLSI H20)
MIN_GROUPS = 20  # originals or slides of the cells; our choice: fewer may be one stain and one day
MIN_CELLS_PER_CLASS = 10  # our choice: with fewer, a class is not judged
MIN_SLIDES = 20  # our choice; with 100 cells counted by tool and reader, as in CLSI H20's routine differential
REFERENCE_CELLS = 200  # as many as a reader of CLSI H20's reference differential counts
MIN_AGREEMENT_PERCENT = 86.0
MIN_COUNTED_ACCURACY_PERCENT = 97.0
MIN_WITHIN_SAMPLING_ERROR_PERCENT = 90.0
_PUBLISHED_AGREEMENT = "published pre-classification agreement: Sysmex DI-60 86.0 %, CellaVision DM96 89.2 %"


class Conclusion(StrEnum):
    """The conclusion of a verification."""

    FITS = "fits"
    NOT_SHOWN = "not shown to fit"
    DOES_NOT_FIT = "does not fit"
    NO_VERDICT = "no verdict"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion and what was measured for it.

    Attributes:
        name: What is measured.
        limit: The limit, in percent or, of a difference of percents, in percentage points.
        is_lower_bound: Whether at least ``limit`` is required; if not, at most ``limit`` is.
        source: Why the limit was chosen.
        estimate: The measured value with its 95 % interval.
    """

    name: str
    limit: float
    is_lower_bound: bool
    source: str
    estimate: Proportion | MeanDifference

    @property
    def unit(self) -> str:
        """The unit of the limit and of what was measured."""
        return "points" if isinstance(self.estimate, MeanDifference) else "%"

    @property
    def is_met(self) -> bool:
        """Whether the measured value meets the limit."""
        return self.estimate.percent >= self.limit if self.is_lower_bound else self.estimate.percent <= self.limit

    @property
    def is_failed(self) -> bool:
        """Whether the whole interval misses the limit."""
        return self.estimate.high < self.limit if self.is_lower_bound else self.estimate.low > self.limit


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The result of a verification.

    Attributes:
        conclusion: Whether the models fit the laboratory.
        reason: Why, in one sentence without a full stop.
        criteria: All criteria that were judged.
    """

    conclusion: Conclusion
    reason: str
    criteria: tuple[Criterion, ...]

    @property
    def summary(self) -> str:
        """Conclusion and reason in one line."""
        statement = {
            Conclusion.FITS: "The models fit this laboratory",
            Conclusion.NOT_SHOWN: "The models are not shown to fit this laboratory",
            Conclusion.DOES_NOT_FIT: "The models do not fit this laboratory",
            Conclusion.NO_VERDICT: "No verdict",
        }[self.conclusion]
        return f"{statement}: {self.reason}."


def criterion_agreement(proportion: Proportion) -> Criterion:
    """Return the criterion of the agreement of all cells."""
    return Criterion(
        "cells classified as the reader did", MIN_AGREEMENT_PERCENT, True, _PUBLISHED_AGREEMENT, proportion
    )


def criterion_class_recall(label: str, proportion: Proportion) -> Criterion:
    """Return the criterion of one class's recall: a good total must not hide a class that is missed."""
    return Criterion(
        f"{label} cells found", MIN_AGREEMENT_PERCENT, True, f"as for all cells; {_PUBLISHED_AGREEMENT}", proportion
    )


def criterion_counted_accuracy(proportion: Proportion) -> Criterion:
    """Return the criterion of the cells that a run classifies without a reader."""
    source = "what the models' confidence threshold was chosen for"
    return Criterion(
        "correct among the cells not left to a reader", MIN_COUNTED_ACCURACY_PERCENT, True, source, proportion
    )


def criterion_review(proportion: Proportion) -> Criterion:
    """Return the criterion of the cells left to a reader, among cell images or on slides."""
    limit = 100 * float(Limits.model_fields["high_review_share"].default)
    return Criterion(
        "cells left to a reader",
        limit,
        False,
        "above this a run raises the flag high_review_share",
        proportion,
    )


def criterion_ood(proportion: Proportion) -> Criterion:
    """Return the criterion of the cells that are out of distribution."""
    limit = 100 * float(Limits.model_fields["out_of_domain_share"].default)
    return Criterion(
        "cells unlike anything the models know",
        limit,
        False,
        "above this a run raises the flag out_of_domain",
        proportion,
    )


def criterion_sampling_error(proportion: Proportion) -> Criterion:
    """Return the criterion of the pairs of a slide and a class whose difference sampling explains."""
    source = (
        "two counts of one smear differ by more than sampling explains in 5 of 100 cases (Rümke); our limit: 10 of 100"
    )
    return Criterion("differences explained by sampling", MIN_WITHIN_SAMPLING_ERROR_PERCENT, True, source, proportion)


def criterion_bias(comparison: BlandAltman) -> Criterion:
    """Return the criterion of one class's mean difference: all slides together show what sampling hides on one."""
    mean = comparison.mean_percent
    low, high = clopper_pearson_interval(round(REFERENCE_CELLS * mean / 100), REFERENCE_CELLS)
    source = (
        f"our limit: on average no further apart than sampling may shift one count of {REFERENCE_CELLS} cells (Rümke)"
    )
    name = f"{replace_underscores(comparison.label)}: mean difference of the percentages"
    return Criterion(
        name, round(max(mean - low, high - mean), 1), False, source, MeanDifference.from_bland_altman(comparison)
    )


def conclude(criteria: Sequence[Criterion], shortfall: str) -> VerificationResult:
    """Draw the conclusion from criteria.

    Args:
        criteria: All criteria that were judged.
        shortfall: Which data are missing for a verdict; empty if none are.

    Returns:
        The conclusion. Missing data outweigh a failed criterion, and a failed one those that are only unmet.
    """
    all_criteria = tuple(criteria)
    failed = [criterion for criterion in all_criteria if criterion.is_failed]
    unmet = [criterion for criterion in all_criteria if not criterion.is_met]
    if shortfall:
        return VerificationResult(Conclusion.NO_VERDICT, shortfall, all_criteria)
    if failed:
        return VerificationResult(Conclusion.DOES_NOT_FIT, _summarize_criteria(failed), all_criteria)
    if unmet:
        return VerificationResult(
            Conclusion.NOT_SHOWN, f"{_summarize_criteria(unmet)}; more labeled data would decide", all_criteria
        )
    return VerificationResult(Conclusion.FITS, f"all {len(all_criteria)} criteria are met", all_criteria)


def _summarize_criteria(criteria: Sequence[Criterion]) -> str:
    """Return name, value and limit of each criterion in one line."""
    return "; ".join(
        f"{c.name} {c.estimate.percent:.1f} {c.unit} "
        f"(required: {'at least' if c.is_lower_bound else 'at most'} {c.limit:g} {c.unit})"
        for c in criteria
    )

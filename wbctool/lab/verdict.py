"""Whether the models fit a laboratory: every criterion, with its source, in this one place.

A criterion is met where the measured value meets it, and failed where even the end of its 95 % interval that speaks for
the models does not; in between more cells would tell. The models fit where all are met, do not fit where one is failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from wbctool.lab.agreement import BlandAltman, Difference, Share
from wbctool.settings import Limits
from wbctool.stages.differential import exact_interval

MIN_CELLS = 100  # those of a routine differential (CLSI H20)
MIN_SOURCES = 20  # originals or slides that the cells come from; ours: fewer are one stain and one day
MIN_OF_A_CLASS = 10  # ours: with fewer, nothing is said of a class
MIN_SLIDES = 20  # ours; of 100 cells counted by both, as CLSI H20's routine differential has
REFERENCE_CELLS = 200  # that a reader of CLSI H20's reference differential counts
AGREEMENT_PERCENT = 86.0
RIGHT_AMONG_COUNTED_PERCENT = 97.0
SAME_BY_SAMPLING_PERCENT = 90.0
_PUBLISHED = "published pre-classification agreement: Sysmex DI-60 86.0 %, CellaVision DM96 89.2 %"


class Fit(StrEnum):
    """What a verification comes to."""

    FITS = "fits"
    NOT_SHOWN = "not shown to fit"
    DOES_NOT_FIT = "does not fit"
    NO_VERDICT = "no verdict"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One demand. limit: in percent; at_least: a lower limit, else an upper one. source: why this limit."""

    what: str
    limit: float
    at_least: bool
    source: str
    share: Share | Difference

    @property
    def met(self) -> bool:
        """By the measured value."""
        return self.share.percent >= self.limit if self.at_least else self.share.percent <= self.limit

    @property
    def failed(self) -> bool:
        """By the whole interval."""
        return self.share.high < self.limit if self.at_least else self.share.low > self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """fit, and why in one sentence. criteria: all that were looked at."""

    fit: Fit
    why: str
    criteria: tuple[Criterion, ...]

    @property
    def line(self) -> str:
        """The verdict in one line."""
        said = {
            Fit.FITS: "The models fit this laboratory",
            Fit.NOT_SHOWN: "The models are not shown to fit this laboratory",
            Fit.DOES_NOT_FIT: "The models do not fit this laboratory",
            Fit.NO_VERDICT: "No verdict",
        }[self.fit]
        return f"{said}: {self.why}."


def agreement_criterion(share: Share) -> Criterion:
    """Of all cells."""
    return Criterion("cells classified as the reader did", AGREEMENT_PERCENT, True, _PUBLISHED, share)


def class_criterion(label: str, share: Share) -> Criterion:
    """Of the cells of one class: a good whole must not hide a class that is missed."""
    return Criterion(f"{label} cells found", AGREEMENT_PERCENT, True, f"as for all cells; {_PUBLISHED}", share)


def counted_criterion(share: Share) -> Criterion:
    """Of the cells that a run names without a reader."""
    source = "what the models' confidence threshold was chosen for"
    return Criterion("correct among the cells not left to a reader", RIGHT_AMONG_COUNTED_PERCENT, True, source, share)


def review_criterion(share: Share) -> Criterion:
    """Of all cells, of cell images or of slides."""
    limit = 100 * float(Limits.model_fields["high_review_share"].default)
    return Criterion("cells left to a reader", limit, False, "above this a run raises high_review_share", share)


def unknown_criterion(share: Share) -> Criterion:
    """Of all cells."""
    limit = 100 * float(Limits.model_fields["out_of_domain_share"].default)
    return Criterion(
        "cells unlike anything the models know", limit, False, "above this a run raises out_of_domain", share
    )


def sampling_criterion(share: Share) -> Criterion:
    """Of all pairs of a slide and a class."""
    source = (
        "two counts of one smear differ by more than sampling explains in 5 of 100 cases (Rümke); our limit: 10 of 100"
    )
    return Criterion("differences explained by sampling", SAME_BY_SAMPLING_PERCENT, True, source, share)


def bias_criterion(found: BlandAltman) -> Criterion:
    """Of the percents of one class over all slides: what each slide's sampling hides, all of them together show."""
    mean = found.mean_percent
    low, high = exact_interval(round(REFERENCE_CELLS * mean / 100), REFERENCE_CELLS)
    source = (
        f"our limit: on average no further apart than sampling may shift one count of {REFERENCE_CELLS} cells (Rümke)"
    )
    what = f"{found.label.replace('_', ' ')}: mean difference of the percentages"
    return Criterion(what, round(max(mean - low, high - mean), 1), False, source, Difference.of(found))


def decide(criteria: Sequence[Criterion], too_few: str) -> Verdict:
    """The verdict. too_few: why there can be none, else empty."""
    every = tuple(criteria)
    failed = [criterion for criterion in every if criterion.failed]
    missed = [criterion for criterion in every if not criterion.met]
    if too_few:
        return Verdict(Fit.NO_VERDICT, too_few, every)
    if failed:
        return Verdict(Fit.DOES_NOT_FIT, _told(failed), every)
    if missed:
        return Verdict(Fit.NOT_SHOWN, f"{_told(missed)}; more labelled data would decide", every)
    return Verdict(Fit.FITS, f"all {len(every)} criteria are met", every)


def _told(criteria: Sequence[Criterion]) -> str:
    return "; ".join(
        f"{c.what} {c.share.percent:.1f} % (required: {'at least' if c.at_least else 'at most'} {c.limit:g} %)"
        for c in criteria
    )

"""Figures of merit, pure: arrays in, named results out. The textbook ones are scikit-learn's and scikit-image's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from wbctool.records import Box

_DRAWN_AT_ONCE = 1_000_000  # sources


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Matches at IoU 0.5. mean_iou: of the matched pairs."""

    annotated: int
    detected: int
    matched: int
    mean_iou: float

    @property
    def precision(self) -> float:
        """Matched over detected."""
        return self.matched / self.detected if self.detected else 0.0

    @property
    def recall(self) -> float:
        """Matched over annotated."""
        return self.matched / self.annotated if self.annotated else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall.

        >>> DetectionScore(annotated=10, detected=8, matched=6, mean_iou=0.8).f1
        0.6666666666666666
        """
        total = self.annotated + self.detected
        return 2 * self.matched / total if total else 0.0


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Sources for which the one way is better, and the other; p: two-sided, that so uneven a split is chance."""

    for_one: int
    for_other: int
    p: float


def match_boxes(annotated: Sequence[Box], detected: Sequence[Box], min_iou: float = 0.5) -> list[float]:
    """IoUs of the pairs of a one-to-one matching: detections in the order given, each to the best box still free."""
    free = list(annotated)
    ious: list[float] = []
    for box in detected:
        best = max(free, key=box.iou, default=None)
        if best is not None and box.iou(best) >= min_iou:
            ious.append(box.iou(best))
            free.remove(best)
    return ious


def score_detections(fields: Sequence[tuple[Sequence[Box], Sequence[Box]]]) -> DetectionScore:
    """fields: (annotated, detected) boxes of each; detections best first."""
    ious = [iou for annotated, detected in fields for iou in match_boxes(annotated, detected)]
    return DetectionScore(
        annotated=sum(len(a) for a, _ in fields),
        detected=sum(len(d) for _, d in fields),
        matched=len(ious),
        mean_iou=float(np.mean(ious)) if ious else 0.0,
    )


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error (Guo 2017, arXiv 1706.04599, eq. 3): bins of equal width, weighted by their number.

    >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15000000000000002
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for index in np.unique(which):
        inside = which == index
        error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def accuracy_by_source(right: NDArray[np.bool_], sources: Sequence[str]) -> tuple[float, int]:
    """(share of sources of whose images more than half are right, number of sources)."""
    votes: dict[str, list[bool]] = defaultdict(list)
    for source, is_right in zip(sources, right.tolist(), strict=True):
        votes[source].append(is_right)
    return float(np.mean([np.mean(v) > 0.5 for v in votes.values()])), len(votes)


def cluster_interval(
    right: NDArray[np.bool_], sources: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the accuracy per image, by drawing whole sources with replacement (cluster bootstrap).

    Widened, where that is narrower, to the exact one (Clopper and Pearson) of as many trials as there are sources:
    near 1 the bootstrap is far too narrow, and of all right it gives 1 to 1.

    >>> low, high = cluster_interval(np.ones(28, bool), [str(i) for i in range(28)])
    >>> round(low, 3), high
    (0.877, 1.0)
    """
    names, index = np.unique(np.asarray(sources), return_inverse=True)
    hits = np.bincount(index, weights=right.astype(float))
    images = np.bincount(index)
    generator, drawn_at_once = np.random.default_rng(seed), max(1, _DRAWN_AT_ONCE // len(names))
    accuracies = np.empty(draws)
    for start in range(0, draws, drawn_at_once):  # all at once, 17,000 sources took half a GB; the numbers are the same
        block = accuracies[start : start + drawn_at_once]
        drawn = generator.integers(len(names), size=(len(block), len(names)))
        block[:] = hits[drawn].sum(axis=1) / images[drawn].sum(axis=1)
    low, high = np.quantile(accuracies, [0.025, 0.975])
    trials, successes = len(names), len(names) * float(right.mean())
    exact_low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    exact_high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return float(min(low, exact_low)), float(max(high, exact_high))


def paired_test(one: NDArray[np.bool_], other: NDArray[np.bool_], sources: Sequence[str]) -> PairedTest:
    """McNemar's exact test of two ways to classify the same images, by source: copies of one cell are one trial.

    A source speaks for the way under which more of its images are right; where they are even, for neither.
    """
    balance: dict[str, int] = defaultdict(int)
    for source, a, b in zip(sources, one.tolist(), other.tolist(), strict=True):
        balance[source] += int(a) - int(b)
    for_one = sum(value > 0 for value in balance.values())
    for_other = sum(value < 0 for value in balance.values())
    p = float(binomtest(for_one, for_one + for_other).pvalue) if for_one + for_other else 1.0
    return PairedTest(for_one, for_other, p)

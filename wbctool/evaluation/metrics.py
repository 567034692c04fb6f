"""Figures of merit, pure: arrays in, named results out. The textbook ones are scikit-learn's and scikit-image's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from wbctool.types.cells import Box

_MAX_DRAWS_PER_CHUNK = 1_000_000  # sources


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Matches at IoU 0.5. mean_iou: of the matched pairs."""

    n_true: int
    n_pred: int
    tp: int
    mean_iou: float

    @property
    def precision(self) -> float:
        """Matched over detected."""
        return self.tp / self.n_pred if self.n_pred else 0.0

    @property
    def recall(self) -> float:
        """Matched over annotated."""
        return self.tp / self.n_true if self.n_true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall.

        >>> DetectionScore(annotated=10, detected=8, matched=6, mean_iou=0.8).f1
        0.6666666666666666
        """
        total = self.n_true + self.n_pred
        return 2 * self.tp / total if total else 0.0


@dataclass(frozen=True, slots=True)
class McNemarResult:
    """Sources for which the one way is better, and the other; p: two-sided, that so uneven a split is chance."""

    wins: int
    losses: int
    p: float


def match_boxes(annotated: Sequence[Box], detected: Sequence[Box], min_iou: float = 0.5) -> list[float]:
    """IoUs of the pairs of a one-to-one matching: detections in the order given, each to the best box still free."""
    unmatched = list(annotated)
    ious: list[float] = []
    for box in detected:
        best = max(unmatched, key=box.iou, default=None)
        if best is not None and box.iou(best) >= min_iou:
            ious.append(box.iou(best))
            unmatched.remove(best)
    return ious


def score_detections(fields: Sequence[tuple[Sequence[Box], Sequence[Box]]]) -> DetectionScore:
    """fields: (annotated, detected) boxes of each; detections best first."""
    ious = [iou for annotated, detected in fields for iou in match_boxes(annotated, detected)]
    return DetectionScore(
        n_true=sum(len(a) for a, _ in fields),
        n_pred=sum(len(d) for _, d in fields),
        tp=len(ious),
        mean_iou=float(np.mean(ious)) if ious else 0.0,
    )


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15) -> float:
    """Expected calibration error (Guo 2017, arXiv 1706.04599, eq. 3): bins of equal width, weighted by their number.

    >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15000000000000002
    """
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for index in np.unique(bin_index):
        in_bin = bin_index == index
        error += in_bin.mean() * abs(correct[in_bin].mean() - confidence[in_bin].mean())
    return float(error)


def accuracy_by_group(correct: NDArray[np.bool_], groups: Sequence[str]) -> tuple[float, int]:
    """(share of sources of whose images more than half are right, number of sources)."""
    votes: dict[str, list[bool]] = defaultdict(list)
    for group, is_correct in zip(groups, correct.tolist(), strict=True):
        votes[group].append(is_correct)
    return float(np.mean([np.mean(v) > 0.5 for v in votes.values()])), len(votes)


def cluster_bootstrap_interval(
    correct: NDArray[np.bool_], groups: Sequence[str], n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the accuracy per image, by drawing whole sources with replacement (cluster bootstrap).

    Widened, where that is narrower, to the exact one (Clopper and Pearson) of as many trials as there are groups:
    near 1 the bootstrap is far too narrow, and of all right it gives 1 to 1.

    >>> low, high = cluster_bootstrap_interval(np.ones(28, bool), [str(i) for i in range(28)])
    >>> round(low, 3), high
    (0.877, 1.0)
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    hits = np.bincount(index, weights=correct.astype(float))
    images = np.bincount(index)
    generator, chunk_size = np.random.default_rng(seed), max(1, _MAX_DRAWS_PER_CHUNK // len(names))
    accuracies = np.empty(n_resamples)
    for start in range(
        0, n_resamples, chunk_size
    ):  # all at once, 17,000 sources took half a GB; the numbers are the same
        block = accuracies[start : start + chunk_size]
        drawn = generator.integers(len(names), size=(len(block), len(names)))
        block[:] = hits[drawn].sum(axis=1) / images[drawn].sum(axis=1)
    low, high = np.quantile(accuracies, [0.025, 0.975])
    trials, successes = len(names), len(names) * float(correct.mean())
    exact_low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    exact_high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return float(min(low, exact_low)), float(max(high, exact_high))


def mcnemar_by_group(one: NDArray[np.bool_], other: NDArray[np.bool_], groups: Sequence[str]) -> McNemarResult:
    """McNemar's exact test of two ways to classify the same images, by group: copies of one cell are one trial.

    A source speaks for the way under which more of its images are right; where they are even, for neither.
    """
    balance: dict[str, int] = defaultdict(int)
    for group, a, b in zip(groups, one.tolist(), other.tolist(), strict=True):
        balance[group] += int(a) - int(b)
    wins = sum(value > 0 for value in balance.values())
    losses = sum(value < 0 for value in balance.values())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return McNemarResult(wins, losses, p)

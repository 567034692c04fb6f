"""Pure measures of detection, classification and images, with intervals and tests that respect groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from wbctool.stages.differential import clopper_pearson_interval
from wbctool.types.cells import Box

_MAX_PSNR_DB = 100.0


@dataclass(frozen=True, slots=True)
class DetectionScore:
    """Detections matched with annotated boxes at an intersection over union (IoU) of 0.5.

    Attributes:
        n_true: Number of annotated boxes.
        n_pred: Number of detections.
        tp: Number of matched pairs.
        mean_iou: Mean IoU of the matched pairs, in [0, 1]; 0 if there are none.
    """

    n_true: int
    n_pred: int
    tp: int
    mean_iou: float

    @property
    def precision(self) -> float:
        """Matched detections over all detections, in [0, 1]."""
        return self.tp / self.n_pred if self.n_pred else 0.0

    @property
    def recall(self) -> float:
        """Matched boxes over all annotated boxes, in [0, 1]."""
        return self.tp / self.n_true if self.n_true else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1].

        >>> DetectionScore(n_true=10, n_pred=8, tp=6, mean_iou=0.8).f1
        0.6666666666666666
        """
        total = self.n_true + self.n_pred
        return 2 * self.tp / total if total else 0.0


@dataclass(frozen=True, slots=True)
class McNemarResult:
    """McNemar's exact test of two methods on the same groups.

    Attributes:
        wins: Number of groups in which the first method is correct more often.
        losses: Number of groups in which the second method is correct more often.
        p: Two-sided probability of a split at least as uneven if both are equally good.
    """

    wins: int
    losses: int
    p: float


def match_boxes(annotated: Sequence[Box], detected: Sequence[Box], min_iou: float = 0.5) -> list[tuple[Box, Box]]:
    """Match each detection, in the given order, with the free annotated box that it overlaps most.

    Args:
        annotated: The true boxes; each is matched at most once.
        detected: The detections, best first.
        min_iou: Smallest intersection over union of a match, in [0, 1].

    Returns:
        The annotated box and the detection of each matched pair.
    """
    unmatched = list(annotated)
    pairs: list[tuple[Box, Box]] = []
    for box in detected:
        best = max(unmatched, key=box.iou, default=None)
        if best is not None and box.iou(best) >= min_iou:
            pairs.append((best, box))
            unmatched.remove(best)
    return pairs


def score_detections(fields: Sequence[tuple[Sequence[Box], Sequence[Box]]]) -> DetectionScore:
    """Score the detections of many fields together.

    Args:
        fields: Annotated boxes and detections of each field; detections best first.
    """
    ious = [box.iou(other) for annotated, detected in fields for box, other in match_boxes(annotated, detected)]
    return DetectionScore(
        n_true=sum(len(a) for a, _ in fields),
        n_pred=sum(len(d) for _, d in fields),
        tp=len(ious),
        mean_iou=float(np.mean(ious)) if ious else 0.0,
    )


def accuracy_by_group(correct: NDArray[np.bool_], groups: Sequence[str]) -> tuple[float, int]:
    """Compute the accuracy of a majority vote in each group.

    Args:
        correct: (N,) bool, whether each image is classified correctly.
        groups: The group of each image.

    Returns:
        The part of the groups of whose images more than half are correct, and the number of groups.
    """
    votes: dict[str, list[bool]] = defaultdict(list)
    for group, is_correct in zip(groups, correct.tolist(), strict=True):
        votes[group].append(is_correct)
    return float(np.mean([np.mean(v) > 0.5 for v in votes.values()])), len(votes)


def cluster_bootstrap_interval(
    correct: NDArray[np.bool_],
    groups: Sequence[str],
    n_resamples: int = 2000,
    seed: int = 0,
    max_draws: int = 1_000_000,
) -> tuple[float, float]:
    """Compute a 95 % interval of the accuracy per image by a cluster bootstrap, which draws whole groups.

    The interval covers what another sample of groups from the same population would give; images of one group do not
    count as independent. If the exact binomial interval of as many trials as there are groups is wider, its bounds
    are taken: near an accuracy of 1 the bootstrap is far too narrow.

    Args:
        correct: (N,) bool, N > 0, whether each image is classified correctly.
        groups: The group of each image.
        n_resamples: Number of bootstrap samples.
        seed: Seed of the random draws.
        max_draws: Number of groups drawn at once, which limits memory and does not change the result.

    Returns:
        The bounds, in [0, 1].

    References:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, percentile interval; Field and Welsh 2007,
        J R Stat Soc B 69:369, clusters; Clopper and Pearson 1934, Biometrika 26:404.

    >>> low, high = cluster_bootstrap_interval(np.ones(28, bool), [str(i) for i in range(28)])
    >>> round(low, 3), high
    (0.877, 1.0)
    """
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    hits = np.bincount(index, weights=correct.astype(float))
    images = np.bincount(index)
    generator, chunk_size = np.random.default_rng(seed), max(1, max_draws // len(names))
    accuracies = np.empty(n_resamples)
    for start in range(0, n_resamples, chunk_size):
        chunk = accuracies[start : start + chunk_size]
        drawn = generator.integers(len(names), size=(len(chunk), len(names)))
        chunk[:] = hits[drawn].sum(axis=1) / images[drawn].sum(axis=1)
    low, high = np.quantile(accuracies, [0.025, 0.975])
    exact_low, exact_high = clopper_pearson_interval(len(names) * float(correct.mean()), len(names))
    return float(min(low, exact_low / 100)), float(max(high, exact_high / 100))


def mcnemar_by_group(one: NDArray[np.bool_], other: NDArray[np.bool_], groups: Sequence[str]) -> McNemarResult:
    """Compare two methods that classified the same images by McNemar's exact test.

    Each group is one trial, so copies of a cell count once. A group is a win of the method that classified more of
    its images correctly; a tie counts for neither.

    Args:
        one: (N,) bool, whether the first method is correct.
        other: (N,) bool, whether the second method is correct.
        groups: The group of each image.

    References:
        McNemar 1947, Psychometrika 12:153.
    """
    balance: dict[str, int] = defaultdict(int)
    for group, a, b in zip(groups, one.tolist(), other.tolist(), strict=True):
        balance[group] += int(a) - int(b)
    wins = sum(value > 0 for value in balance.values())
    losses = sum(value < 0 for value in balance.values())
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    return McNemarResult(wins, losses, p)


def psnr_db(images: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]]) -> float:
    """Compute the peak signal-to-noise ratio of all images together, from their pooled mean squared error.

    scikit-image's ``peak_signal_noise_ratio`` is not used, as `wbctool models optimize` works without scikit-image.

    Args:
        images: (H, W, 3) uint8 each; the sizes may differ from image to image.
        references: The true images, of the same sizes.

    Returns:
        Decibels, at most 100, also for images without any difference.

    >>> psnr_db([np.zeros((2, 2, 3), np.uint8)], [np.full((2, 2, 3), 255, np.uint8)])
    0.0
    """
    pairs = zip(images, references, strict=True)
    squared_error = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in pairs)
    mse = squared_error / sum(image.size for image in images)
    return min(_MAX_PSNR_DB, float(10 * np.log10(255**2 / mse))) if mse else _MAX_PSNR_DB

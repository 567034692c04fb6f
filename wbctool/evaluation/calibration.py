"""How well confidences match accuracy: temperature, reliability bins and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

IN_DISTRIBUTION_FRACTION = 0.98  # of cells of known classes: they pass the thresholds of energy and of unknown kinds
_LOG_TEMPERATURE_RANGE = (-2.0, 2.0)


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """The bins of a reliability diagram that hold a cell, in order of confidence.

    Attributes:
        fraction: (bins,) float64, the part of all cells that each bin holds; the sum is 1.
        confidence: (bins,) float64, the mean confidence of each bin, in [0, 1].
        accuracy: (bins,) float64, the part of each bin's cells that is correct, in [0, 1].
    """

    fraction: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_], n_bins: int = 15) -> ReliabilityBins:
    """Sort predictions into bins of equal width by their confidence.

    scikit-learn's ``calibration_curve`` does the same, but does not return how many predictions each bin holds.

    Args:
        confidence: (N,) float64 in [0, 1], the probability of the predicted class.
        correct: (N,) bool, whether the prediction is correct.
        n_bins: Number of bins over [0, 1]. A confidence on an edge belongs to the upper bin, 1 to the last.
    """
    index = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(index, minlength=n_bins)
    used = counts > 0
    mean_confidence, accuracy = (
        np.bincount(index, weights=values, minlength=n_bins)[used] / counts[used] for values in (confidence, correct)
    )
    return ReliabilityBins(counts[used] / len(confidence), mean_confidence, accuracy)


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error, in [0, 1].

    Args:
        confidence: (N,) float64 in [0, 1], the probability of the predicted class.
        correct: (N,) bool, whether the prediction is correct.

    References:
        Guo et al. 2017, arXiv 1706.04599, equation 3.

    >>> round(calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False])), 3)
    0.15
    """
    bins = reliability_bins(confidence, correct)
    return float(bins.fraction @ np.abs(bins.accuracy - bins.confidence))


def fit_temperature(
    logits: NDArray[np.float64], y_true: NDArray[np.int64], weights: NDArray[np.float64] | None = None
) -> float:
    """Fit the temperature by which logits are divided before the softmax, by least negative log-likelihood.

    Args:
        logits: (N, classes) float64. A constant added to a row changes nothing, so log-probabilities will do.
        y_true: (N,) int64, the index of each row's true class.
        weights: (N,) float64 with the sum 1; equal weights if None.

    Returns:
        The temperature, between exp(-2) and exp(2).

    References:
        Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    rows = np.arange(len(y_true))
    weights = np.full(len(y_true), 1 / len(y_true)) if weights is None else weights

    def negative_log_likelihood(log_temperature: float) -> float:
        return float(-weights @ log_softmax(logits / np.exp(log_temperature), axis=1)[rows, y_true])

    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=_LOG_TEMPERATURE_RANGE, method="bounded").x))

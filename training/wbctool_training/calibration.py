"""The classifier's temperature and thresholds, fitted on the validation split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.evaluation.calibration import fit_temperature

_TARGET_ACCURACY = 0.97  # of the counted cells
_IN_DISTRIBUTION_FRACTION = 0.98  # of the validation cells have an energy below the threshold
_MIN_THRESHOLD = 0.40
_MIN_COVERAGE = 0.88  # counted share of the cells; it has precedence over the accuracy


@dataclass(frozen=True, slots=True)
class CalibrationParameters:
    """What calibration gives a ClassifierCard.

    Attributes:
        temperature: Divides the logits.
        confidence_threshold: Cells with a lower probability go to review.
        energy_threshold: Cells with a higher energy (-logsumexp of the logits) are out of distribution.
    """

    temperature: float
    confidence_threshold: float
    energy_threshold: float


def fit_calibration(
    logits: NDArray[np.float32], y_true: NDArray[np.int64], weights: NDArray[np.float64]
) -> CalibrationParameters:
    """Fit temperature and thresholds to validation cells.

    The temperature minimizes the negative log-likelihood. The confidence threshold is the lowest with 97 % of the
    counted cells correct or, if there is none, the highest with 88 % of the cells counted. 98 % of the cells have an
    energy below its threshold. All shares are weighted.

    Args:
        logits: (N, n_classes) float32.
        y_true: (N,) class indices.
        weights: (N,), sum 1.

    References:
        Temperature: Guo et al. 2017, arXiv 1706.04599. Energy: Liu et al. 2020, arXiv 2010.03759.
    """
    logits64 = logits.astype(np.float64)
    temperature = fit_temperature(logits64, y_true, weights)
    probabilities = softmax(logits64 / temperature, axis=1)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == y_true
    energy = -logsumexp(logits64, axis=1)
    energy_threshold = float(
        np.ceil(1e4 * np.quantile(energy, _IN_DISTRIBUTION_FRACTION, weights=weights, method="inverted_cdf")) / 1e4
    )
    return CalibrationParameters(
        temperature=round(temperature, 4),
        confidence_threshold=_fit_confidence_threshold(
            np.where(energy > energy_threshold, 0.0, confidence), correct, weights
        ),
        energy_threshold=energy_threshold,
    )


def _fit_confidence_threshold(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Return the confidence threshold; confidence is 0 for a cell that the energy excludes anyway."""
    chosen = _MIN_THRESHOLD
    for threshold in np.arange(_MIN_THRESHOLD, 1.0, 0.01):
        counted = confidence >= threshold
        weight = weights[counted].sum()
        if weight < _MIN_COVERAGE:
            break
        chosen = float(threshold)
        if weights[counted & correct].sum() >= _TARGET_ACCURACY * weight:
            break
    return round(chosen, 2)

"""Temperature and thresholds, fitted on validation cells: no weight was fitted to them, nothing is reported on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.evaluation.calibration import fit_temperature

_TARGET_ACCURACY = 0.97  # among the counted cells
_IN_DISTRIBUTION_FRACTION = 0.98  # of the validation cells pass the energy gate
_MIN_THRESHOLD = 0.40
_MIN_COVERAGE = 0.88  # of the cells, whatever it takes: a reader cannot look at all


@dataclass(frozen=True, slots=True)
class CalibrationParameters:
    """As the classifier's card has them (wbctool.inference.model_card.ClassifierCard)."""

    temperature: float
    confidence_threshold: float
    energy_threshold: float


def fit_calibration(
    logits: NDArray[np.float32], y_true: NDArray[np.int64], weights: NDArray[np.float64]
) -> CalibrationParameters:
    """logits: (N, classes), y_true: (N,) indices, weights: (N,), sum 1.

    temperature: least negative log-likelihood (Guo 2017, arXiv 1706.04599). confidence_threshold: the lowest at which
    97 % of the counted cells are right; where none is, the highest that leaves 88 % of the cells counted.
    energy_threshold: 98 % of the cells lie below it. All of them weighed.
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
    """confidence: 0 where a cell is not counted anyway."""
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

"""Temperature and thresholds, fitted on validation cells: no weight was fitted to them, nothing is reported on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

_WANTED_RIGHT = 0.97  # among the counted cells
_KNOWN_SHARE = 0.98  # of the validation cells pass the energy gate
_LOWEST = 0.40
_LEAST_COUNTED = 0.88  # of the cells, whatever it takes: a reader cannot look at all


@dataclass(frozen=True, slots=True)
class Calibration:
    """As the classifier's card has them (wbctool.cards.ClassifierCard)."""

    temperature: float
    confidence_threshold: float
    energy_threshold: float


def calibrate(logits: NDArray[np.float32], wanted: NDArray[np.int64], weights: NDArray[np.float64]) -> Calibration:
    """logits: (N, classes), wanted: (N,) indices, weights: (N,), sum 1.

    temperature: least negative log-likelihood (Guo 2017, arXiv 1706.04599). confidence_threshold: the lowest at which
    97 % of the counted cells are right; where none is, the highest that leaves 88 % of the cells counted.
    energy_threshold: 98 % of the cells lie below it. All of them weighed.
    """
    exact = logits.astype(np.float64)
    rows = np.arange(len(wanted))

    def loss(log_temperature: float) -> float:
        return float(-weights @ log_softmax(exact / np.exp(log_temperature), axis=1)[rows, wanted])

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
    probabilities = softmax(exact / temperature, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == wanted
    energy = -logsumexp(exact, axis=1)
    gate = float(np.ceil(1e4 * np.quantile(energy, _KNOWN_SHARE, weights=weights, method="inverted_cdf")) / 1e4)
    return Calibration(
        temperature=round(temperature, 4),
        confidence_threshold=_confidence_threshold(np.where(energy > gate, 0.0, confidence), right, weights),
        energy_threshold=gate,
    )


def _confidence_threshold(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """confidence: 0 where a cell is not counted anyway."""
    chosen = _LOWEST
    for threshold in np.arange(_LOWEST, 1.0, 0.01):
        counted = confidence >= threshold
        weight = weights[counted].sum()
        if weight < _LEAST_COUNTED:
            break
        chosen = float(threshold)
        if weights[counted & right].sum() >= _WANTED_RIGHT * weight:
            break
    return round(chosen, 2)

"""Whether softer or sharper probabilities would suit a laboratory better."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from wbctool.evaluation.calibration import calibration_error, fit_temperature

MIN_CALIBRATION_CELLS = 30  # our choice, to fit a temperature and to measure a calibration error
_MIN_PROBABILITY = 1e-12  # keeps the logarithm finite if a probability underflows to 0


@dataclass(frozen=True, slots=True)
class TemperatureRefit:
    """A temperature fitted to half of a laboratory's groups, and measured on the other half.

    It is applied to the probabilities as shipped, which the cards' temperatures have scaled.

    Attributes:
        fitted_on: Number of cells that the temperature was fitted to.
        measured_on: Number of cells, of other groups, that it was measured on.
        temperature: The fitted temperature; 1 would change nothing.
        error: Expected calibration error as shipped, in [0, 1].
        error_refitted: Expected calibration error with the fitted temperature, in [0, 1].
        confidences: Confidence of each measured cell as shipped.
        confidences_refitted: Confidence of each measured cell with the fitted temperature.
        correct: Whether each measured cell is classified correctly.

    References:
        Guo et al. 2017, arXiv 1706.04599.
    """

    fitted_on: int
    measured_on: int
    temperature: float
    error: float
    error_refitted: float
    confidences: tuple[float, ...]
    confidences_refitted: tuple[float, ...]
    correct: tuple[bool, ...]


def refit_temperature(
    probabilities: NDArray[np.float64], y_true: NDArray[np.int64], groups: Sequence[str]
) -> TemperatureRefit | None:
    """Fit a temperature to half of the groups, and measure it on the other half.

    Args:
        probabilities: (N, classes) float64, as shipped.
        y_true: (N,) int64, the index of each cell's true class.
        groups: The group of each cell.

    Returns:
        The temperature and both errors; None if one half has fewer than MIN_CALIBRATION_CELLS cells.
    """
    is_fitted = split_groups_in_half(groups)
    if min(is_fitted.sum(), (~is_fitted).sum()) < MIN_CALIBRATION_CELLS:
        return None
    log_probabilities = np.log(np.maximum(probabilities, _MIN_PROBABILITY))
    temperature = fit_temperature(log_probabilities[is_fitted], y_true[is_fitted])
    before = probabilities[~is_fitted].max(axis=1)
    after = softmax(log_probabilities[~is_fitted] / temperature, axis=1).max(axis=1)
    correct = probabilities[~is_fitted].argmax(axis=1) == y_true[~is_fitted]
    return TemperatureRefit(
        fitted_on=int(is_fitted.sum()),
        measured_on=len(correct),
        temperature=temperature,
        error=calibration_error(before, correct),
        error_refitted=calibration_error(after, correct),
        confidences=tuple(before.tolist()),
        confidences_refitted=tuple(after.tolist()),
        correct=tuple(correct.tolist()),
    )


def split_groups_in_half(groups: Sequence[str]) -> NDArray[np.bool_]:
    """Choose half of the groups, in an order that does not depend on what their names mean.

    Args:
        groups: The group of each cell.

    Returns:
        (N,) bool, whether each cell belongs to a chosen group.
    """
    order = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode(errors="surrogateescape")).digest())
    chosen = set(order[::2])
    return np.array([group in chosen for group in groups], dtype=np.bool_)

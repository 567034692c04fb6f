"""Temperatures and thresholds of adapted readers, from cells that a reader had not learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.adaptation.cells import Label
from wbctool.evaluation.calibration import fit_temperature
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.inference.model_card import CellClassifierCard
from wbctool.types.cells import Outcome, Prediction

MAX_SILENT_ERRORS = 0.015  # of the cells are expected at the threshold; 0.6 to 2.8 % were measured (docs/models.md)
_SPARE_SILENT_ERRORS = 1  # that may be seen beyond this share: of a few dozen cells one is already more
_IN_DISTRIBUTION_FRACTION = 0.98
_CONFIDENCES = np.round(np.arange(0.40, 1.0, 0.01), 2)
_MIN_PROBABILITY = 1e-12


def calibrate(card: CellClassifierCard, logits: NDArray[np.float32], labels: Sequence[Label]) -> CellClassifierCard:
    """Fit the temperature and the energy threshold of one reader.

    Args:
        card: The reader's card.
        logits: (N, outputs) of cells that were held out.
        labels: The cells' labels.

    Returns:
        The card; as it is if no cell is of a class.
    """
    rows, y_true = _find_known(card, labels)
    if not len(rows):
        return card
    of_classes = logits[rows, : len(card.classes)].astype(np.float64)
    energies = -logsumexp(of_classes, axis=1)
    return card.model_copy(
        update={
            "temperature": round(fit_temperature(of_classes, y_true), 4),
            "energy_threshold": round(float(np.quantile(energies, _IN_DISTRIBUTION_FRACTION)), 4),
        }
    )


def choose_threshold(predictions: Sequence[Prediction], card: CellClassifierCard, labels: Sequence[Label]) -> float:
    """Return the lowest threshold at which few silent errors are expected; the highest if there is none.

    Among a hundred cells too few are wrong to count them, so the confidences estimate how many are. They are calibrated
    once more first, because the mean of two calibrated readers is too low. At most one silent error more than the
    share may be seen.

    Args:
        predictions: The predictions of cells without a threshold.
        card: The card of the reader, or of the first of two.
        labels: The cells' labels.
    """
    log_p = np.log(np.maximum([p.probabilities for p in predictions], _MIN_PROBABILITY))
    rows, y_true = _find_known(card, labels)
    temperature = fit_temperature(log_p[rows], y_true) if len(rows) else 1.0
    seen = np.array(list(map(is_silent_error, predictions, labels)), float)
    expected = seen.copy()  # of cells that no class fits, all that are counted are errors, whatever the confidence
    expected[rows] = 1 - softmax(log_p[rows] / temperature, axis=1).max(axis=1)
    is_filed = np.array([p.outcome is not Outcome.NEEDS_REVIEW for p in predictions], bool)
    confidences = np.array([p.confidence for p in predictions])
    most = MAX_SILENT_ERRORS * len(labels)
    for threshold in _CONFIDENCES:
        passes = is_filed & (confidences >= threshold)
        if expected[passes].sum() <= most and seen[passes].sum() <= most + _SPARE_SILENT_ERRORS:
            return float(threshold)
    return float(_CONFIDENCES[-1])


def _find_known(card: CellClassifierCard, labels: Sequence[Label]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the cells that are of a class of the card, and the index of the class of each."""
    index_by_class: dict[Label, int] = {label: index for index, label in enumerate(card.classes)}
    known = [(row, index_by_class[label]) for row, label in enumerate(labels) if label in index_by_class]
    rows, y_true = np.array(known, np.int64).reshape(-1, 2).T
    return rows, y_true

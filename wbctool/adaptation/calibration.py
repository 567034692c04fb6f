"""Temperatures and thresholds of adapted readers, from cells that a reader had not learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from wbctool.adaptation.cells import Label
from wbctool.evaluation.calibration import IN_DISTRIBUTION_FRACTION, fit_temperature
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.inference.model_card import CellClassifierCard
from wbctool.types.cells import Outcome, Prediction

MAX_SILENT_ERRORS = 0.015  # of the cells, at the chosen threshold; so that a little more elsewhere is still below 2 %
_CONFIDENCES = np.round(np.arange(0.40, 1.0, 0.01), 2)


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
            "energy_threshold": round(float(np.quantile(energies, IN_DISTRIBUTION_FRACTION)), 4),
        }
    )


def choose_threshold(predictions: Sequence[Prediction], labels: Sequence[Label]) -> float:
    """Return the lowest threshold with few silent errors; the highest if there is none.

    Args:
        predictions: The predictions of cells without a threshold.
        labels: The cells' labels.
    """
    confidences = np.array([0.0 if p.outcome is Outcome.NEEDS_REVIEW else p.confidence for p in predictions])
    silent = np.array(list(map(is_silent_error, predictions, labels)), bool)
    for threshold in _CONFIDENCES:
        if silent[confidences >= threshold].sum() <= MAX_SILENT_ERRORS * len(labels):
            return float(threshold)
    return float(_CONFIDENCES[-1])


def _find_known(card: CellClassifierCard, labels: Sequence[Label]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the cells that are of a class of the card, and the index of the class of each."""
    index_by_class: dict[Label, int] = {label: index for index, label in enumerate(card.classes)}
    known = [(row, index_by_class[label]) for row, label in enumerate(labels) if label in index_by_class]
    rows, y_true = np.array(known, np.int64).reshape(-1, 2).T
    return rows, y_true

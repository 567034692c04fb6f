"""The classifier's temperature and thresholds, fitted on the validation split."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.datasets.laboratories import find_laboratories
from wbctool.evaluation.calibration import IN_DISTRIBUTION_FRACTION, fit_temperature
from wbctool.inference.model_card import CardT, CellClassifierCard
from wbctool.labels import CellClass
from wbctool.stages.classify import predictions_from_logits
from wbctool.text import pluralize
from wbctool.types.cells import Outcome
from wbctool.verification.criteria import MIN_CELLS, MIN_GROUPS
from wbctool_training.data.cell_index import CellRef

log = logging.getLogger(__name__)

_TARGET_ACCURACY = 0.97  # of the counted cells
_MIN_THRESHOLD = 0.40
_UNKNOWN_RANGE = (0.05, 0.5)
_MIN_COVERAGE = 0.88  # counted share of the cells; it has precedence over the accuracy


def warn_on_few_cells(cells: Sequence[CellRef], classes: Sequence[CellClass]) -> None:
    """Warn of laboratories with few cells, and of classes without any, to fit temperature and thresholds to.

    Args:
        cells: The validation cells; those of no class are passed over.
        classes: The classes of the classifier.
    """
    cells = [cell for cell in cells if cell.label in classes]
    laboratory_by_dataset = find_laboratories(cells)
    few = []
    for laboratory in sorted(set(laboratory_by_dataset.values())):
        groups = [cell.group for cell in cells if laboratory_by_dataset[cell.dataset] == laboratory]
        if len(groups) < MIN_CELLS or len(set(groups)) < MIN_GROUPS:
            few.append(f"{pluralize(len(groups), 'cell')} of {pluralize(len(set(groups)), 'group')} of {laboratory}")
    if few:
        log.warning("temperature and thresholds are fitted to only %s: verify them there before use", ", ".join(few))
    present = {cell.label for cell in cells}
    if missing := [label.value for label in classes if label not in present]:
        log.warning("temperature and thresholds are fitted to no cell of %s", ", ".join(missing))


def fit_calibration(
    card: CardT, logits: NDArray[np.float32], y_true: NDArray[np.int64], weights: NDArray[np.float64]
) -> CardT:
    """Fit a classifier's temperature and thresholds to validation cells.

    The temperature minimizes the negative log-likelihood among the classes, since the cells show no unknown kinds. 98 %
    of the cells have an energy below its threshold. The unknown kinds' threshold is the lowest that at most 2 % of the
    cells reach. The confidence threshold is the lowest with 97 % of the counted cells correct or, if there is none, the
    highest with 88 % of the cells counted, by the outcomes of a run. All shares are weighted.

    Args:
        card: The classifier's card.
        logits: (N, classes and unknown kinds) float32.
        y_true: (N,) class indices.
        weights: (N,), sum 1.

    Returns:
        The card with temperature and thresholds.

    References:
        Temperature: Guo et al. 2017, arXiv 1706.04599. Energy: Liu et al. 2020, arXiv 2010.03759.
    """
    assert isinstance(card, CellClassifierCard)
    of_classes = logits[:, : len(card.classes)].astype(np.float64)
    temperature = round(fit_temperature(of_classes, y_true, weights), 4)
    energy = -logsumexp(of_classes, axis=1)
    energy_threshold = float(
        np.ceil(1e4 * np.quantile(energy, IN_DISTRIBUTION_FRACTION, weights=weights, method="inverted_cdf")) / 1e4
    )
    n_unknown = len(card.unknown_kinds)
    unknown_threshold = fit_unknown_threshold(logits, weights, temperature, n_unknown) if n_unknown else None
    card = card.model_copy(
        update={
            "temperature": temperature,
            "energy_threshold": energy_threshold,
            "unknown_threshold": unknown_threshold,
            "confidence_threshold": 0.0,
        }
    )
    predictions = predictions_from_logits(logits, card)
    confidence = np.array([0.0 if p.outcome is Outcome.NEEDS_REVIEW else p.confidence for p in predictions])
    correct = np.array([p.label is card.classes[index] for p, index in zip(predictions, y_true, strict=True)])
    return card.model_copy(update={"confidence_threshold": fit_confidence_threshold(confidence, correct, weights)})


def fit_unknown_threshold(
    logits: NDArray[np.floating], weights: NDArray[np.float64], temperature: float, n_unknown_kinds: int
) -> float:
    """Choose from which probability on a cell is taken for a kind that no class fits.

    Args:
        logits: (N, n_classes + n_unknown_kinds) of cells of known classes.
        weights: (N,), sum 1.
        temperature: Divides the logits.
        n_unknown_kinds: Number of the last logits that stand for such kinds.

    Returns:
        The lowest threshold that at most 2 % of the cells reach, between 0.05 and 0.5.
    """
    probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
    of_unknown = probabilities[:, probabilities.shape[1] - n_unknown_kinds :].sum(axis=1)
    quantile = np.quantile(of_unknown, IN_DISTRIBUTION_FRACTION, weights=weights, method="inverted_cdf")
    return float(np.ceil(1e3 * np.clip(quantile + 1e-9, *_UNKNOWN_RANGE)) / 1e3)


def fit_confidence_threshold(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], weights: NDArray[np.float64]
) -> float:
    """Choose the confidence from which on a cell is counted, or its subtype named.

    Args:
        confidence: (N,) in [0, 1]; 0 for a cell that is excluded anyway.
        correct: (N,) whether the most probable name is right.
        weights: (N,), sum 1.

    Returns:
        The lowest threshold with 97 % of the cells above it correct or, if there is none, the highest with 88 % of the
        cells above it; 0.40, the lowest of all, if even there fewer are above it.
    """
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

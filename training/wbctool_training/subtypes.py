"""The layer that tells finer kinds of cells within a class, fitted to the features of a trained classifier."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from wbctool.adaptation.last_layer import Basis, fit_correction
from wbctool.datasets.laboratories import find_laboratories
from wbctool.inference.classifier_head import LastLayer
from wbctool.labels import SUBTYPES_BY_CLASS, Subtype
from wbctool_training.calibration import fit_confidence_threshold
from wbctool_training.data.cell_index import CellRef

log = logging.getLogger(__name__)

_MIN_CELLS = 10  # training cells of each subtype of a class
_L2_PENALTY = 3e-5  # towards weights of zero: of 1e-2 to 1e-5, where the loss of validation cells was lowest
_NOT_COMPETING = -1e9  # the logit of a subtype of another class


@dataclass(frozen=True, slots=True)
class SubtypeLayer:
    """What tells the subtypes of cells.

    Attributes:
        subtypes: The subtype of each logit.
        layer: Gives the logits of the classifier's features.
        threshold: A cell with a smaller probability of its most probable subtype gets none.
    """

    subtypes: tuple[Subtype, ...]
    layer: nn.Linear
    threshold: float


def fit_subtypes(
    train_cells: Sequence[CellRef],
    validation_cells: Sequence[CellRef],
    measure_features: Callable[[Sequence[CellRef]], NDArray[np.float32]],
) -> SubtypeLayer | None:
    """Fit a multinomial logistic regression in which the subtypes of a cell's class compete.

    Every subtype of every laboratory weighs the same. The threshold is the lowest with 97 % of the named validation
    cells right or, if there is none, the highest with 88 % of them named.

    Args:
        train_cells: Training cells; those without a subtype are left out.
        validation_cells: Validation cells, likewise.
        measure_features: Returns the classifier's features (N, D) of cells.

    Returns:
        The layer, for the classes with enough training cells of all their subtypes; None if there is no such class, or
        no validation cell of it.
    """
    n_by_subtype = Counter(cell.subtype for cell in train_cells)
    subtypes = tuple(
        subtype
        for of_class in SUBTYPES_BY_CLASS.values()
        if all(n_by_subtype[each] >= _MIN_CELLS for each in of_class)
        for subtype in of_class
    )
    train = [cell for cell in train_cells if cell.subtype in subtypes]
    validation = [cell for cell in validation_cells if cell.subtype in subtypes]
    if not validation:
        return None
    layer = _fit_layer(measure_features(train), train, subtypes)
    logits = layer.compute_logits(measure_features(validation)) + _competition(validation, subtypes)
    probabilities = softmax(logits, axis=1)
    correct = probabilities.argmax(axis=1) == _indices(validation, subtypes)
    weights = np.full(len(validation), 1 / len(validation))
    threshold = fit_confidence_threshold(probabilities.max(axis=1), correct, weights)
    log.info("subtypes: fitted to %d cells, named from a probability of %g", len(train), threshold)
    linear = nn.Linear(layer.weight.shape[1], len(subtypes))
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(layer.weight))
        linear.bias.copy_(torch.from_numpy(layer.bias))
    return SubtypeLayer(subtypes, linear, threshold)


def _fit_layer(features: NDArray[np.float32], cells: Sequence[CellRef], subtypes: Sequence[Subtype]) -> LastLayer:
    """Fit the layer to cells whose subtypes are all among ``subtypes``."""
    laboratory_by_dataset = find_laboratories(cells)
    keys = [(laboratory_by_dataset[cell.dataset], cell.subtype) for cell in cells]
    n_by_key = Counter(keys)
    weights = np.array([1 / n_by_key[key] for key in keys])
    zeros = LastLayer(np.zeros((len(subtypes), features.shape[1]), np.float32), np.zeros(len(subtypes), np.float32))
    basis = Basis.fit(zeros, features)
    reduced = replace(basis.reduce(features), logits=_competition(cells, subtypes))
    return basis.correct(fit_correction(reduced, _indices(cells, subtypes), weights, _L2_PENALTY))


def _competition(cells: Sequence[CellRef], subtypes: Sequence[Subtype]) -> NDArray[np.float64]:
    """Return what is added to the logits (N, subtypes) of labeled cells: 0 for the subtypes of a cell's class."""
    competes = [[subtype.label is cell.label for subtype in subtypes] for cell in cells]
    return np.where(competes, 0.0, _NOT_COMPETING)


def _indices(cells: Sequence[CellRef], subtypes: Sequence[Subtype]) -> NDArray[np.int64]:
    """Return the index (N,) of each cell's subtype."""
    return np.array([subtypes.index(cell.subtype) for cell in cells if cell.subtype is not None], np.int64)

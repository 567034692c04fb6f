"""What makes a laboratory's own slides familiar to a reader, and no other laboratory's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.cells import Label
from wbctool.evaluation.familiarity import fit_max_mean_distance, fit_max_offset
from wbctool.evaluation.stain_reference import fit_color_range
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace, OwnLaboratory
from wbctool.stages.familiarity import map_features, squared_distances
from wbctool.types.slides import FieldColors

_OWN_LABORATORY = "own laboratory"


def fit_familiarity(
    rule: FamiliarityRule,
    features: NDArray[np.float32],
    features_by_fold: Sequence[NDArray[np.float32]],
    labels: Sequence[Label],
    folds: NDArray[np.int64],
) -> FamiliarityRule:
    """Add a laboratory's centers to those of the training, with limits that fit its slides.

    Args:
        rule: The rule of the reader as shipped.
        features: (N, D), of the laboratory's cells, by the adapted reader.
        features_by_fold: (N, D) each, by the reader that was adapted without the fold.
        labels: The label of each cell.
        folds: (N,) the fold of each cell; -1 leaves a cell out. The limits are fitted to the cells of each fold, with
            the centers of the other folds.

    Returns:
        The rule of the adapted reader, in the feature space of the shipped one.
    """
    whitening, training_centers = rule.space.arrays
    distances, own_distances = np.zeros((2, len(folds)))
    held_out = []
    for fold, of_fold in enumerate(features_by_fold):
        positions = map_features(of_fold, rule.space)
        centers, cells_by_center = _find_centers(positions, labels, (folds >= 0) & (folds != fold))
        space = FeatureSpace.from_arrays(whitening, np.vstack([training_centers, centers]))
        distances[folds == fold] = squared_distances(of_fold[folds == fold], space)
        if cells_by_center:
            own_space = FeatureSpace.from_arrays(whitening, centers)
            own_distances[folds == fold] = squared_distances(of_fold[folds == fold], own_space)
            held_out.append((positions[folds == fold], centers, cells_by_center))
    limit = fit_max_mean_distance([distances[folds >= 0]], rule.min_cells)
    centers, cells_by_center = _find_centers(map_features(features, rule.space), labels, folds >= 0)
    own_laboratory = OwnLaboratory(
        cells_by_center=cells_by_center,
        max_offset=fit_max_offset(held_out, rule.min_cells),
        max_training_distance=rule.max_mean_distance,
        max_distance=fit_max_mean_distance([own_distances[folds >= 0]], rule.min_cells),
    )
    return rule.model_copy(
        update={
            "space": FeatureSpace.from_arrays(whitening, np.vstack([training_centers, centers])),
            "max_mean_distance": max(limit, rule.max_mean_distance),
            "own_laboratory": own_laboratory,
        }
    )


def add_colors(rule: FamiliarityRule, fields: Sequence[FieldColors]) -> FamiliarityRule:
    """Add the colors of a laboratory's fields to the rule of a reader that was adapted to it."""
    if rule.own_laboratory is None:
        return rule
    colors = fit_color_range(_OWN_LABORATORY, fields)
    return rule.model_copy(update={"own_laboratory": rule.own_laboratory.model_copy(update={"colors": colors})})


def _find_centers(
    positions: NDArray[np.float32], labels: Sequence[Label], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Return the mean position of each class and kind of some cells, and the number of its cells."""
    names = np.array(labels, str)
    members = [chosen & (names == name) for name in np.unique(names[chosen & (names != "")])]
    centers = np.array([positions[m].mean(axis=0) for m in members], np.float32)
    return centers.reshape(-1, positions.shape[1]), tuple(int(m.sum()) for m in members)

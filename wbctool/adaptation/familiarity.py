"""What makes a laboratory's own slides familiar to a reader, and no other laboratory's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.cells import Label
from wbctool.evaluation.familiarity import fit_max_mean_distance, fit_max_offset
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace, OwnLaboratory
from wbctool.stages.familiarity import map_features, squared_distances


def fit_familiarity(
    features: NDArray[np.float32],
    rule: FamiliarityRule,
    labels: Sequence[Label],
    chosen: NDArray[np.bool_],
    folds: NDArray[np.int64],
) -> FamiliarityRule:
    """Set the laboratory's centers beside those of the training, with limits that fit its slides.

    Args:
        features: (N, D), a reader's features of the laboratory's cells.
        rule: Of the reader as it was shipped.
        labels: What the cells are called; an empty string if no class fits.
        chosen: (N,) bool, the cells to learn from.
        folds: (N,), the fold of each of these; -1 for the others. The limits fit cells that the centers in their fold
            were made without.

    Returns:
        The rule of the adapted reader, in the feature space of the shipped one.
    """
    whitening, training_centers = rule.space.arrays
    positions = map_features(features, rule.space)
    distances = np.zeros(len(folds))
    held_out = []
    for fold in range(int(folds.max()) + 1):
        centers, cells_by_center = _find_centers(positions, labels, (folds >= 0) & (folds != fold))
        space = FeatureSpace.from_arrays(whitening, np.vstack([training_centers, centers]))
        distances[folds == fold] = squared_distances(features[folds == fold], space)
        if cells_by_center:
            held_out.append((positions[folds == fold], centers, cells_by_center))
    limit = fit_max_mean_distance([distances[chosen]], rule.min_cells)
    centers, cells_by_center = _find_centers(positions, labels, chosen)
    return FamiliarityRule(
        space=FeatureSpace.from_arrays(whitening, np.vstack([training_centers, centers])),
        max_mean_distance=max(limit, rule.max_mean_distance),
        min_cells=rule.min_cells,
        min_confidence=rule.min_confidence,
        own_laboratory=OwnLaboratory(
            cells_by_center=cells_by_center,
            max_offset=fit_max_offset(held_out, rule.min_cells),
            max_training_distance=rule.max_mean_distance,
        ),
    )


def _find_centers(
    positions: NDArray[np.float32], labels: Sequence[Label], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """Return the mean position of each class and kind of some cells, and the number of its cells."""
    names = np.array(labels, str)
    members = [chosen & (names == name) for name in np.unique(names[chosen & (names != "")])]
    centers = np.array([positions[m].mean(axis=0) for m in members], np.float32)
    return centers.reshape(-1, positions.shape[1]), tuple(int(m.sum()) for m in members)

"""What a classifier's card says of familiar slides: its feature space, and how far a familiar slide's cells may lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import HasGroup
from wbctool.datasets.laboratories import find_laboratories
from wbctool.evaluation.familiarity import fit_max_mean_distance
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.stages.familiarity import squared_distances
from wbctool_training.recipe import FamiliarityRecipe

_MAX_DIMENSIONS = 128  # those in which cells of one class vary most; the others carry little but noise
_SHRINKAGE = 0.05  # towards equal variances, because few cells show each direction
_MIN_VARIANCE = 1e-4  # few training cells, each the only one of its class, do not vary


def fit_familiarity(
    train_features: NDArray[np.float32],
    train_y: NDArray[np.int64],
    validation_features: NDArray[np.float32],
    validation_cells: Sequence[HasGroup],
    config: FamiliarityRecipe,
) -> FamiliarityRule:
    """Fit the rule that tells unfamiliar slides.

    The largest mean distance of a familiar slide is chosen so that, in every laboratory with ``min_cells`` validation
    cells or more, a slide of so many exceeds it with at most the probability ``false_alarm_share``.

    Args:
        train_features: (N, D), the classifier's features of training cells.
        train_y: (N,) their class indices.
        validation_features: (M, D), its features of validation cells.
        validation_cells: These cells.
        config: The recipe.

    Returns:
        The rule.
    """
    space = fit_feature_space(train_features, train_y)
    distances = squared_distances(validation_features, space)
    laboratory_by_dataset = find_laboratories(validation_cells)
    by_laboratory = [
        distances[[laboratory_by_dataset[cell.dataset] == laboratory for cell in validation_cells]]
        for laboratory in sorted(set(laboratory_by_dataset.values()))
    ]
    return FamiliarityRule(
        space=space,
        max_mean_distance=fit_max_mean_distance(by_laboratory, config.min_cells, config.false_alarm_share),
        min_cells=config.min_cells,
        min_confidence=config.min_confidence,
        min_confidence_alone=config.min_confidence_alone,
    )


def fit_feature_space(features: NDArray[np.float32], y_true: NDArray[np.int64]) -> FeatureSpace:
    """Fit the space in which the covariance within the classes is the identity.

    Args:
        features: (N, D), the classifier's features.
        y_true: (N,) class indices.

    Returns:
        The space, with the means of the classes that occur.
    """
    classes = np.unique(y_true)
    means = np.stack([features[y_true == label].mean(axis=0) for label in classes]).astype(np.float64)
    deviations = features - means[np.searchsorted(classes, y_true)]
    variances, directions = np.linalg.eigh(deviations.T @ deviations / len(deviations))
    variances, directions = variances[-_MAX_DIMENSIONS:], directions[:, -_MAX_DIMENSIONS:]
    variances = (1 - _SHRINKAGE) * variances + _SHRINKAGE * variances.mean()
    whitening = directions / np.sqrt(np.maximum(variances, _MIN_VARIANCE))
    return FeatureSpace.from_arrays(whitening.astype(np.float32), (means @ whitening).astype(np.float32))

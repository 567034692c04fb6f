"""Familiarity: whether a slide as a whole looks like the laboratories that the models were trained on.

One cell's distance from the training says little; the mean over a slide says much. On an unfamiliar slide the usual
confidence is worth less, so only the cells that pass a stricter rule are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.types.cells import Outcome, Prediction, Reason
from wbctool.types.slides import Familiarity

_OUT_OF_RANGE_SHARE = 0.5  # of a slide's fields have colors unlike any laboratory of the training


def squared_distances(features: NDArray[np.float32], space: FeatureSpace) -> NDArray[np.float32]:
    """Measure how far cells are from every class of the training.

    Args:
        features: (N, D), a classifier's features.
        space: Of its card.

    Returns:
        (N,), the squared Mahalanobis distance to the nearest class's mean, with one covariance for all classes.

    References:
        Lee et al. 2018, arXiv 1807.03888.
    """
    whitening, centers = space.arrays
    # row by row: a product of matrices rounds differently with N, and results must not depend on the batch
    offsets = np.stack([row @ whitening for row in features])[:, None] - centers[None]
    distances: NDArray[np.float32] = (offsets**2).sum(axis=2).min(axis=1)
    return distances


def assess_familiarity(
    predictions: Sequence[Prediction], rule: FamiliarityRule | None, stain_out_of_range: Sequence[bool] = ()
) -> Familiarity | None:
    """Decide whether a slide is familiar.

    The distance is each cell's own, averaged; the distance of the averaged features would call a slide unfamiliar
    whose cells are all of one class.

    Args:
        predictions: The prediction of each cell.
        rule: Of the classifier's card.
        stain_out_of_range: Of each field, whether its stain colors are unlike those of every laboratory of the
            training: a second witness.

    Returns:
        The decision; None without a rule.
    """
    if rule is None:
        return None
    distances = [prediction.distance for prediction in predictions if prediction.distance is not None]
    mean = fmean(distances) if distances else None
    strange_stain = sum(stain_out_of_range) > _OUT_OF_RANGE_SHARE * len(stain_out_of_range)
    is_familiar: bool | None = None
    if mean is not None and len(distances) >= rule.min_cells:
        is_familiar = mean <= rule.max_mean_distance and not strange_stain
    return Familiarity(cells=len(distances), mean_distance=mean, limit=rule.max_mean_distance, is_familiar=is_familiar)


def hold_back_cells(
    predictions: Sequence[Prediction], familiarity: Familiarity | None, rule: FamiliarityRule | None
) -> list[Prediction]:
    """Send the cells of a slide that is not known to be familiar to review, unless they pass the stricter rule.

    Args:
        predictions: The prediction of each cell.
        familiarity: What :func:`assess_familiarity` returned.
        rule: Of the classifier's card.

    Returns:
        The predictions, in order.
    """
    if rule is None or familiarity is None or familiarity.is_familiar:
        return list(predictions)
    return [p if p.confidence >= rule.min_confidence else _hold_back(p) for p in predictions]


def familiarity_flags(familiarity: Familiarity | None) -> set[str]:
    """Return the flag ``unfamiliar`` if a slide is known to be, else nothing."""
    return {"unfamiliar"} if familiarity is not None and familiarity.is_familiar is False else set()


def _hold_back(prediction: Prediction) -> Prediction:
    """Send a cell to review, with the reason that has precedence."""
    if prediction.reason in {Reason.POSSIBLE_BLAST, Reason.OUT_OF_DISTRIBUTION}:
        return prediction
    return replace(prediction, outcome=Outcome.NEEDS_REVIEW, reason=Reason.UNFAMILIAR_SLIDE)

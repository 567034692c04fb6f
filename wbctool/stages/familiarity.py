"""Familiarity: whether a slide as a whole looks like the laboratories that the models were trained on.

One cell's distance from the training says little; the mean over a slide says much. On an unfamiliar slide the usual
confidence is worth less, so only the cells that pass a stricter rule are counted.

A laboratory that a classifier was adapted to may have cells that are as far from each other as a third laboratory's are
from them. So its slides must also lie near its own cells, and around them: a third laboratory's lie beside them, all in
one direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.types.cells import Prediction, Reason
from wbctool.types.differential import Flag
from wbctool.types.slides import Familiarity

_OUT_OF_RANGE_SHARE = 0.5  # of a slide's fields have colors unlike any laboratory of the training


def squared_distances(features: NDArray[np.float32], space: FeatureSpace) -> NDArray[np.float32]:
    """Measure how far cells are from every class of the training.

    Args:
        features: (N, D), a classifier's features.
        space: The feature space of the classifier's card.

    Returns:
        (N,), the squared Mahalanobis distance to the nearest class's mean, with one covariance for all classes.

    References:
        Lee et al. 2018, arXiv 1807.03888.
    """
    distances: NDArray[np.float32] = _squared_lengths(map_features(features, space), space.arrays[1]).min(axis=1)
    return distances


def map_features(features: NDArray[np.float32], space: FeatureSpace) -> NDArray[np.float32]:
    """Map features (N, D) into a feature space (N, k)."""
    whitening, _ = space.arrays
    # row by row: a product of matrices rounds differently with N, and results must not depend on the batch
    return np.stack([row @ whitening for row in features])


def measure_familiarity(
    predictions: Sequence[Prediction], features: NDArray[np.float32], rule: FamiliarityRule
) -> list[Prediction]:
    """Add to predictions what :func:`assess_familiarity` needs.

    Args:
        predictions: The prediction of each cell.
        features: (N, D), the classifier's features of the cells.
        rule: The rule of the classifier's card.

    Returns:
        The predictions with distances and, if the classifier was adapted to a laboratory, positions.
    """
    distances = squared_distances(features, rule.space).tolist()
    positions = [b""] * len(features)
    if rule.own_laboratory is not None:
        positions = [position.tobytes() for position in map_features(features, rule.space)]
    return [
        replace(prediction, distance=distance, position=position)
        for prediction, distance, position in zip(predictions, distances, positions, strict=True)
    ]


def measure_offset(
    positions: NDArray[np.float32], centers: NDArray[np.float32], cells_by_center: Sequence[int]
) -> float:
    """Measure how far cells lie from those of a laboratory, all in one direction.

    Each cell's offset from the nearest center is averaged over the slide, and the squared length of this mean is
    divided by what chance gives it: by the spread of the slide's cells and of those that each center is the mean of. It
    is about 1 for cells of the laboratory, of whatever classes, and grows with the number of another one's.

    Args:
        positions: (N, k), at least two cells in a feature space.
        centers: (M, k), the means of the laboratory's classes and kinds there.
        cells_by_center: The number of cells that each center is the mean of.

    Returns:
        The offset, not negative; 0 if no cell differs from another.

    References:
        Hotelling 1931, doi 10.1214/aoms/1177732979: the test of two means, here with the covariance of the space and a
        mean of its own for each class.
    """
    nearest = _squared_lengths(positions, centers).argmin(axis=1)
    offsets = positions - centers[nearest]
    mean = offsets.mean(axis=0)
    variance = float(((offsets - mean) ** 2).sum()) / (len(offsets) - 1)
    shares = np.bincount(nearest, minlength=len(centers)) / len(offsets)
    by_chance = variance * (1 / len(offsets) + float((shares**2 / np.array(cells_by_center)).sum()))
    return float((mean**2).sum()) / by_chance if by_chance > 0 else 0.0


def assess_familiarity(
    predictions: Sequence[Prediction], rule: FamiliarityRule | None, stain_out_of_range: Sequence[bool] = ()
) -> Familiarity | None:
    """Decide whether a slide is familiar.

    The distance is each cell's own, averaged; the distance of the averaged features would call a slide unfamiliar
    whose cells are all of one class. If the classifier was adapted to a laboratory, the slide must also lie near and
    around that laboratory's cells, or be near the training.

    Args:
        predictions: The prediction of each cell.
        rule: The rule of the classifier's card.
        stain_out_of_range: Whether the stain colors of each field are unlike those of every laboratory of the
            training. If this is so of most fields, the slide is unfamiliar whatever the distance, and however few cells
            there are: strange colors may be why the detector found no more.

    Returns:
        The decision; None without a rule.
    """
    if rule is None:
        return None
    distances = [prediction.distance for prediction in predictions if prediction.distance is not None]
    mean = fmean(distances) if distances else None
    is_stain_out_of_range = sum(stain_out_of_range) > _OUT_OF_RANGE_SHARE * len(stain_out_of_range)
    is_familiar: bool | None = False if is_stain_out_of_range else None
    if mean is not None and len(distances) >= rule.min_cells:
        is_familiar = mean <= rule.max_mean_distance and not is_stain_out_of_range
    familiarity = Familiarity(len(distances), mean, rule.max_mean_distance, is_familiar)
    own = rule.own_laboratory
    positions = [np.frombuffer(p.position, np.float32) for p in predictions if p.position]
    if own is None or len(positions) < max(rule.min_cells, 2):
        return familiarity
    n_own, centers = len(own.cells_by_center), rule.space.arrays[1]
    own_centers, training_centers = centers[-n_own:], centers[:-n_own]
    offset = measure_offset(np.stack(positions), own_centers, own.cells_by_center)
    own_distance, training_distance = (
        float(_squared_lengths(np.stack(positions), of).min(axis=1).mean()) for of in (own_centers, training_centers)
    )
    is_own = offset <= own.max_offset and (own.max_distance is None or own_distance <= own.max_distance)
    is_known = is_own or training_distance <= own.max_training_distance
    return replace(
        familiarity,
        is_familiar=bool(is_familiar and is_known),
        offset=offset,
        offset_limit=own.max_offset,
        own_distance=own_distance,
        own_distance_limit=own.max_distance,
    )


def send_unsure_to_review(
    predictions: Sequence[Prediction], familiarity: Familiarity | None, rule: FamiliarityRule | None
) -> list[Prediction]:
    """Send the cells of a slide that is not known to be familiar to review, unless they pass the stricter rule.

    Args:
        predictions: The prediction of each cell.
        familiarity: What :func:`assess_familiarity` returned.
        rule: The rule of the classifier's card.

    Returns:
        The predictions, in order.
    """
    if rule is None or familiarity is None or familiarity.is_familiar:
        return list(predictions)
    return [
        p if p.confidence >= rule.min_confidence else p.sent_to_review(Reason.UNFAMILIAR_SLIDE) for p in predictions
    ]


def judge_familiarity(
    predictions: Sequence[Prediction],
    rule: FamiliarityRule | None,
    stain_out_of_range: Sequence[bool] = (),
    is_found: Sequence[bool] | None = None,
) -> tuple[list[Prediction], Familiarity | None]:
    """Judge cells as one slide: whether it is familiar, and which cells of another one are counted.

    Args:
        predictions: The prediction of each cell.
        rule: The rule of the classifier's card.
        stain_out_of_range: As of :func:`assess_familiarity`.
        is_found: Of each labeled cell, whether a run would find it; the others say nothing of the slide. None if all
            were found.

    Returns:
        The predictions, in order, and the familiarity, None without a rule.
    """
    found = predictions
    if is_found is not None:
        found = [prediction for prediction, is_there in zip(predictions, is_found, strict=True) if is_there]
    familiarity = assess_familiarity(found, rule, stain_out_of_range)
    return send_unsure_to_review(predictions, familiarity, rule), familiarity


def familiarity_flags(familiarity: Familiarity | None) -> set[Flag]:
    """Return the flag ``unfamiliar`` if a slide is known to be, else nothing."""
    return {Flag.UNFAMILIAR} if familiarity is not None and familiarity.is_familiar is False else set()


def _squared_lengths(positions: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distance (N, M) of each position from each center."""
    lengths: NDArray[np.float32] = ((positions[:, None] - centers[None]) ** 2).sum(axis=2)
    return lengths

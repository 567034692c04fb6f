"""Familiarity of labeled cells: the limit that fits a laboratory, and data sets judged as a run judges a slide."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.stages.familiarity import judge_familiarity, measure_offset
from wbctool.types.slides import Familiarity

log = logging.getLogger(__name__)

_FALSE_ALARM_SHARE = 0.02
_SIMULATED_SLIDES = 2000  # of each laboratory
_SIMULATED_OFFSETS = 600  # which take longer


def fit_max_mean_distance(
    distances: Sequence[NDArray[np.floating]], min_cells: int, false_alarm_share: float = _FALSE_ALARM_SHARE
) -> float:
    """Choose the largest mean distance of a familiar slide.

    A laboratory with fewer cells than a slide is left out, unless none is left: the tail of so few is chance.

    Args:
        distances: The distances of the cells of each laboratory, which took no part in fitting the feature space.
        min_cells: The number of cells of a simulated slide.
        false_alarm_share: The share of a laboratory's slides that may exceed the limit.

    Returns:
        The limit of the laboratory that needs the largest.
    """
    enough = [of_laboratory for of_laboratory in distances if len(of_laboratory) >= min_cells] or distances
    if len(enough) < len(distances):
        log.info(
            "the limit of familiar slides is set by %d of %d laboratories: the others have fewer than %d cells each",
            len(enough),
            len(distances),
            min_cells,
        )
    rng = np.random.default_rng(0)
    limits = []
    for of_laboratory in enough:
        slides = rng.choice(of_laboratory, (_SIMULATED_SLIDES, min_cells))
        limits.append(np.quantile(slides.mean(axis=1), 1 - false_alarm_share))
    return round(float(max(limits)), 1)


def fit_max_offset(
    laboratory: Sequence[tuple[NDArray[np.float32], NDArray[np.float32], Sequence[int]]],
    min_cells: int,
) -> float:
    """Choose the largest offset of slides of a laboratory that a classifier is adapted to.

    Args:
        laboratory: Positions of some of its cells, centers of the others, and the cells by center, for each fold.
        min_cells: The number of cells of a simulated slide.

    Returns:
        The limit, which _FALSE_ALARM_SHARE of the laboratory's slides may exceed.
    """
    rng = np.random.default_rng(0)
    offsets = [
        measure_offset(rng.choice(positions, min_cells), centers, cells_by_center)
        for positions, centers, cells_by_center in laboratory
        for _ in range(_SIMULATED_OFFSETS // len(laboratory))
    ]
    return round(float(np.quantile(offsets, 1 - _FALSE_ALARM_SHARE)), 2)


def judge_as_slides(
    cells: Sequence[EvaluatedCell], rule: FamiliarityRule | None
) -> tuple[list[EvaluatedCell], dict[str, Familiarity]]:
    """Send cells of unfamiliar data sets to review as a run does if a data set is one slide.

    A run also looks at the colors of the slide's fields, which are not known here.

    Args:
        cells: The cells with the readers' predictions.
        rule: The rule of the readers' cards; None judges nothing.

    Returns:
        The cells with what becomes of them, by data set, and the familiarity of each data set.
    """
    members: dict[str, list[EvaluatedCell]] = defaultdict(list)
    for cell in cells:
        members[cell.dataset].append(cell)
    judged: list[EvaluatedCell] = []
    familiarities: dict[str, Familiarity] = {}
    for dataset, in_dataset in sorted(members.items()):
        predictions, familiarity = judge_familiarity(
            [cell.prediction for cell in in_dataset], rule, is_found=[cell.is_found for cell in in_dataset]
        )
        judged += [replace(cell, prediction=p) for cell, p in zip(in_dataset, predictions, strict=True)]
        if familiarity is not None:
            familiarities[dataset] = familiarity
    return judged, familiarities

"""Familiarity of labeled data sets: each is judged as a run judges a slide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.stages.familiarity import assess_familiarity, hold_back_cells
from wbctool.types.slides import Familiarity


def judge_as_slides(
    cells: Sequence[EvaluatedCell], rule: FamiliarityRule | None
) -> tuple[list[EvaluatedCell], dict[str, Familiarity]]:
    """Hold back the cells of unfamiliar data sets as a run does if a data set is one slide.

    Args:
        cells: The cells with the readers' predictions.
        rule: Of the readers' cards; None judges nothing.

    Returns:
        The cells with what becomes of them, by data set, and the familiarity of each data set.
    """
    members: dict[str, list[EvaluatedCell]] = defaultdict(list)
    for cell in cells:
        members[cell.dataset].append(cell)
    judged: list[EvaluatedCell] = []
    familiarities: dict[str, Familiarity] = {}
    for dataset, in_dataset in sorted(members.items()):
        familiarity = assess_familiarity([cell.prediction for cell in in_dataset if cell.is_found], rule)
        predictions = hold_back_cells([cell.prediction for cell in in_dataset], familiarity, rule)
        judged += [replace(cell, prediction=p) for cell, p in zip(in_dataset, predictions, strict=True)]
        if familiarity is not None:
            familiarities[dataset] = familiarity
    return judged, familiarities

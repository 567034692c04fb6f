"""A labeled data set is judged as a run judges a slide."""

import logging

import numpy as np
import pytest

from wbctool.evaluation.familiarity import fit_max_mean_distance, judge_as_slides
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction, Reason

SPACE = FeatureSpace.from_arrays(np.eye(1, dtype=np.float32), np.zeros((1, 1), np.float32))
RULE = FamiliarityRule(space=SPACE, max_mean_distance=100, min_cells=2, min_confidence=0.9)


def _cell(dataset: str, distance: float, confidence: float = 0.8, is_found: bool = True) -> EvaluatedCell:
    label = CellClass.MONOCYTE
    prediction = Prediction(label, confidence, (confidence,), 0.0, Outcome.COUNTED, Reason.NONE, distance=distance)
    return EvaluatedCell(dataset, "x.png", "g", label, None, prediction, is_found)


def test_fit_max_mean_distance_leaves_out_laboratories_with_fewer_cells_than_a_slide(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert fit_max_mean_distance([np.full(20, 3.0), np.full(19, 9.0)], min_cells=20) == 3.0
    assert "set by 1 of 2 laboratories: the others have fewer than 20 cells each" in caplog.text
    assert fit_max_mean_distance([np.full(12, 3.0), np.full(19, 9.0)], min_cells=20) == 9.0


def test_judge_as_slides_holds_back_the_unsure_cells_of_unfamiliar_data_sets_alone() -> None:
    cells = [_cell("b", 500), _cell("a", 50), _cell("b", 500, confidence=0.95), _cell("a", 50)]
    judged, familiarities = judge_as_slides(cells, RULE)
    assert {dataset: f.is_familiar for dataset, f in familiarities.items()} == {"a": True, "b": False}
    assert [(cell.dataset, cell.prediction.reason) for cell in judged] == [
        ("a", Reason.NONE),
        ("a", Reason.NONE),
        ("b", Reason.UNFAMILIAR_SLIDE),
        ("b", Reason.NONE),
    ]


def test_judge_as_slides_cells_that_no_run_finds_decide_nothing() -> None:
    cells = [_cell("a", 50), _cell("a", 50), _cell("a", 10_000, is_found=False)]
    _, familiarities = judge_as_slides(cells, RULE)
    assert (familiarities["a"].cells, familiarities["a"].mean_distance) == (2, 50)


def test_judge_as_slides_without_a_rule_changes_nothing() -> None:
    cells = [_cell("a", 500), _cell("a", 500)]
    assert judge_as_slides(cells, None) == (cells, {})

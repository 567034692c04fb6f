"""A whole slide's quality, familiarity and count."""

from dataclasses import replace

import fakes
import numpy as np

from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.stages.judgment import judge_slide
from wbctool.types.cells import Box, Cell, Detection, Outcome, Reason
from wbctool.types.differential import Flag
from wbctool.types.slides import FieldQuality

CLASSES = tuple(CellClass)
RULE = FamiliarityRule(
    space=FeatureSpace.from_arrays(np.eye(2, dtype=np.float32), np.zeros((1, 2), np.float32)),
    max_mean_distance=10,
    min_cells=3,
    min_confidence=0.95,
)
FIELD = FieldQuality("f.png", None, None, 0.9, None, None, 30.0)


def _cells(distance: float, n: int = 4) -> list[Cell]:
    prediction = replace(fakes.predict("neutrophil"), distance=distance)  # with a confidence of 0.93
    return [Cell("f.png", i + 1, Detection(Box(0, 0, 9, 9), 0.9), False, prediction) for i in range(n)]


def test_judge_slide_counts_a_familiar_slide() -> None:
    judgment = judge_slide(_cells(5), [replace(FIELD, stain_delta_e=0.0)], RULE, CLASSES, Limits(), n_read=1)
    assert judgment.familiarity is not None
    assert judgment.familiarity.is_familiar
    assert judgment.differential.counted == 4
    assert Flag.CROWDED_FIELDS in judgment.differential.flags  # its one field is


def test_judge_slide_is_stricter_if_cells_or_colors_are_unfamiliar() -> None:
    for cells, stain_delta_e in ((_cells(50), 0.0), (_cells(5), 30.0)):
        judgment = judge_slide(cells, [replace(FIELD, stain_delta_e=stain_delta_e)], RULE, CLASSES, Limits(), n_read=1)
        assert Flag.UNFAMILIAR in judgment.differential.flags
        assert {cell.prediction.reason for cell in judgment.cells} == {Reason.UNFAMILIAR_SLIDE}
        assert judgment.differential.review == 4


def test_judge_slide_counts_no_cell_of_wrongly_saved_images() -> None:
    judgment = judge_slide(
        _cells(5), [FIELD], None, CLASSES, Limits(), n_read=1, field_flags={Flag.FAILED_FIELDS}, is_wrongly_saved=True
    )
    assert {cell.prediction.outcome for cell in judgment.cells} == {Outcome.NEEDS_REVIEW}
    assert Flag.FAILED_FIELDS in judgment.differential.flags
    assert judgment.familiarity is None

"""The cells of annotated fields, with fakes for detector and classifier."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from wbctool.datasets.labelled import LabelledBox, LabelledField, RedCellField
from wbctool.enums import SuperResolve
from wbctool.evaluation.field_cells import RedCellReport, evaluate_field_cells, evaluate_red_cell_fields
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import CellClass
from wbctool.types.cells import Box, Crop, Detection, ObjectClass, Outcome, Prediction, Reason

MODELS = SimpleNamespace(
    classifier=SimpleNamespace(card=SimpleNamespace(crop_margin=1.0, adaptation=None)), detector=None
)
ONE, OTHER, SHIFTED, AWAY = Box(10, 10, 20, 20), Box(60, 60, 20, 20), Box(12, 10, 20, 20), Box(60, 10, 20, 20)
NEUTROPHIL = CellClass.NEUTROPHIL


def classify_by_brightness(crops: Sequence[Crop], *_: object) -> tuple[Prediction, ...]:
    """White crops are counted as neutrophils; others go to review, if they are not black."""
    outcomes = {255: Outcome.COUNTED, 0: Outcome.NOT_WBC}
    return tuple(
        Prediction(NEUTROPHIL, 0.9, (), 0.0, outcomes.get(round(crop.rgb.mean()), Outcome.NEEDS_REVIEW), Reason.NONE)
        for crop in crops
    )


@pytest.fixture(autouse=True)
def fake_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wbctool.evaluation.field_cells.predict", classify_by_brightness)


def draw(path: Path, *white: Box) -> Path:
    """Draw a black field with white boxes."""
    rgb = np.zeros((100, 100, 3), np.uint8)
    for box in white:
        rgb[box.y : box.y + box.height, box.x : box.x + box.width] = 255
    Image.fromarray(rgb).save(path)
    return path


def evaluate(field: LabelledField, detected: Sequence[Box]) -> tuple[EvaluatedCell, ...]:
    models, keep = MODELS, lambda items, *_: items
    return evaluate_field_cells([(field, detected)], models, SuperResolve.NEVER, keep)  # type: ignore[arg-type]


def test_evaluate_field_cells_takes_detected_boxes_and_annotated_ones_of_missed_cells(tmp_path: Path) -> None:
    boxes = tuple(LabelledBox(ObjectClass.NUCLEATED, box) for box in (ONE, OTHER))
    red = LabelledBox(ObjectClass.RED_CELL, AWAY)
    field = LabelledField(draw(tmp_path / "f.png", SHIFTED, OTHER), "7", "krd", (*boxes, red), (NEUTROPHIL,) * 2)
    first, second = evaluate(field, [AWAY, SHIFTED])
    assert (first.dataset, first.image, first.group, first.kind) == ("krd", "f.png", "7", NEUTROPHIL)
    assert first.is_counted  # exactly the detected box is white
    assert not second.is_found
    assert second.prediction.outcome is Outcome.COUNTED
    assert second.is_correct
    assert not second.is_counted


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [((), ()), ((NEUTROPHIL,), ()), ((NEUTROPHIL, CellClass.BASOPHIL), ()), ((NEUTROPHIL,), ("x",))],
)
def test_evaluate_field_cells_leaves_out_fields_whose_cells_are_ambiguous(
    tmp_path: Path, labels: tuple[CellClass, ...], kinds: tuple[str, ...]
) -> None:
    boxes = tuple(LabelledBox(ObjectClass.NUCLEATED, box) for box in (ONE, OTHER))
    field = LabelledField(draw(tmp_path / "f.png"), "7", "krd", boxes, labels, kinds)
    assert evaluate(field, [ONE]) == ()


def test_evaluate_field_cells_keeps_unknown_kind(tmp_path: Path) -> None:
    box = LabelledBox(ObjectClass.NUCLEATED, ONE)
    field = LabelledField(draw(tmp_path / "f.png", ONE), "7", "krd", (box,), (), ("blast",))
    assert [cell.kind for cell in evaluate(field, [ONE])] == ["blast"]


def test_evaluate_red_cell_fields_counts_outcomes_by_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "wbctool.evaluation.field_cells.detect_cells", lambda *_: [Detection(ONE, 1), Detection(OTHER, 1)]
    )
    fields = [
        RedCellField(draw(tmp_path / "a.png", ONE), "1", "chula", ()),
        RedCellField(draw(tmp_path / "b.png"), "2", "chula", ((3, 4),)),
        RedCellField(draw(tmp_path / "c.png", Box(10, 10, 10, 20)), "3", "another", ()),
    ]
    models, keep = MODELS, lambda items, *_: items
    assert evaluate_red_cell_fields(fields, models, SuperResolve.NEVER, keep) == (  # type: ignore[arg-type]
        RedCellReport("another", fields=1, found=2, counted=0, review=1, not_wbc=1),
        RedCellReport("chula", fields=2, found=4, counted=1, review=0, not_wbc=3),
    )
    assert evaluate_red_cell_fields([], models, SuperResolve.NEVER, keep) == ()  # type: ignore[arg-type]

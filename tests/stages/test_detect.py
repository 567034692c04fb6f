"""The detector on real fields, and its geometry by hand."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wbctool.errors import CellsTooSmall
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.inference.session import OnnxModel
from wbctool.stages import detect
from wbctool.stages.detect import detect_blood_cells, detect_cells, filter_by_score, non_max_suppression
from wbctool.types.cells import Box, Detection, Field, ObjectClass

DEMO = Path(__file__).parents[1] / "data" / "slides" / "slide-01"


@pytest.fixture(scope="module")
def detector() -> OnnxModel[DetectorCard]:
    return load_model(default_models_dir(), DetectorCard)


@pytest.fixture(scope="module")
def field() -> Field:
    return read_field(min(DEMO.iterdir()))


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    return [read_field(path) for path in sorted(DEMO.iterdir())]


@pytest.fixture(scope="module")
def n_cells(detector: OnnxModel[DetectorCard], fields: list[Field]) -> int:
    """The number of cells in these fields."""
    return sum(len(detect_cells(f, detector)) for f in fields)


def _resized(field: Field, scale: float) -> Field:
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return Field(field.name, cv2.resize(field.rgb, None, fx=scale, fy=scale, interpolation=how).astype(np.uint8))


def test_detect_cells_in_real_field_finds_one_whole_cell(detector: OnnxModel[DetectorCard], field: Field) -> None:
    (cell,) = detect_cells(field, detector)
    assert 0.4 <= cell.score <= 1
    assert 80 < cell.box.longer_side_px < 260  # BCCD's white cells measure 109 to 258 pixels in a field of 640×480


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 4.0])
def test_detect_cells_does_not_depend_on_the_fields_size(
    detector: OnnxModel[DetectorCard], field: Field, scale: float
) -> None:
    (native,) = detect_cells(field, detector)
    (resized,) = detect_cells(_resized(field, scale), detector)
    assert resized.box.longer_side_px / scale == pytest.approx(native.box.longer_side_px, rel=0.12)


@pytest.mark.slow
def test_detect_cells_small_in_large_field_are_found_by_a_finer_pass(
    detector: OnnxModel[DetectorCard], fields: list[Field], n_cells: int
) -> None:
    rows = [np.hstack([f.rgb for f in fields[k : k + 4]]) for k in (0, 4)]
    whole = Field("montage", np.vstack([*rows, *rows]))
    assert len(detect_cells(whole, detector)) == pytest.approx(2 * n_cells, abs=2)


@pytest.mark.slow
@pytest.mark.parametrize("across", [14, 24])
def test_detect_cells_too_small_for_the_first_pass_are_found_by_a_trial(
    detector: OnnxModel[DetectorCard], fields: list[Field], n_cells: int, across: int
) -> None:
    """Hundreds of cells in a low-power field: seen from afar even its red cells are faint, and none is sure."""
    tiles = [_resized(f, 0.25).rgb for f in fields]
    rows = [np.hstack([tiles[(3 * row + column) % len(tiles)] for column in range(across)]) for row in range(across)]
    assert len(detect_cells(Field("low power", np.vstack(rows)), detector)) == pytest.approx(
        across**2 * n_cells / len(fields), rel=0.03
    )


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.08, 0.1])
def test_detect_cells_smaller_than_the_detector_sees_are_magnified_in_fields_of_any_size(
    detector: OnnxModel[DetectorCard], fields: list[Field], n_cells: int, scale: float
) -> None:
    tiles = [_resized(f, scale).rgb for f in fields]
    rows = [np.hstack([tiles[(3 * row + column) % len(tiles)] for column in range(16)]) for row in range(16)]
    expected = 16 * 16 * n_cells / len(fields)
    assert len(detect_cells(Field("low power", np.vstack(rows)), detector)) == pytest.approx(expected, rel=0.03)


def _stitched(across: int, down: int, scale: float) -> Field:
    """Demo fields side by side, as one photograph."""
    parts = [_resized(read_field(path), scale).rgb for path in sorted(DEMO.iterdir())]
    order = np.random.default_rng(0).permutation(np.arange(across * down) % len(parts)).reshape(down, across)
    return Field("stitched", np.vstack([np.hstack([parts[index] for index in row]) for row in order.tolist()]))


@pytest.mark.slow
def test_detect_blood_cells_by_tiles_finds_the_cells_of_one_look(detector: OnnxModel[DetectorCard]) -> None:
    field = _stitched(8, 8, 0.25)
    tiles: list[int] = []

    def note(items: Iterable[Any], total: int, _: str) -> Iterable[Any]:
        tiles.append(total)
        return items

    whole = detect_blood_cells(field, detector, note)
    assert tiles == []
    by_tiles = detect_blood_cells(field, detector, note, max_long_side_px=640)
    assert tiles == [30]
    for target, share in ((ObjectClass.NUCLEATED, 1.0), (ObjectClass.RED_CELL, 0.85)):
        expected, found = ({d.box: d for d in cells if d.object_class is target} for cells in (whole, by_tiles))
        assert len(found) == pytest.approx(len(expected), rel=1 - share)
        pairs = [(e, [f for f in found.values() if f.box.iou(e.box) > 0.9]) for e in expected.values()]
        assert max(len(matches) for _, matches in pairs) == 1  # none is found twice
        assert sum(len(matches) for _, matches in pairs) >= share * len(expected)
        assert all(e.cut_by_border == f.cut_by_border for e, matches in pairs for f in matches)
    assert [(d.box.y, d.box.x) for d in by_tiles] == sorted((d.box.y, d.box.x) for d in by_tiles)


@pytest.mark.slow
def test_detect_cells_in_round_smears_on_glass_does_not_take_them_for_red_cells(
    detector: OnnxModel[DetectorCard],
) -> None:
    field = _stitched(20, 20, 0.15)
    mask = np.zeros(field.rgb.shape[:2], np.uint8)
    for center in ((300, 300), (960, 420), (1560, 320), (500, 1080), (1400, 1080)):
        cv2.circle(mask, center, 240, 1, -1)
    glass = np.random.default_rng(0).normal((205, 200, 203), 1.5, field.rgb.shape).astype(np.uint8)
    smears = Field("smears", np.where(mask[..., None] > 0, field.rgb, glass))
    n_all, n_in_smears = (
        sum(d.object_class is ObjectClass.NUCLEATED for d in detect_blood_cells(f, detector, max_long_side_px=640))
        for f in (field, smears)
    )
    assert n_in_smears == pytest.approx(mask.mean() * n_all, rel=0.1)


@pytest.mark.slow
def test_detect_cells_too_small_for_any_scale_are_named(detector: OnnxModel[DetectorCard]) -> None:
    with pytest.raises(CellsTooSmall):
        detect_blood_cells(_stitched(30, 30, 0.05), detector, max_long_side_px=640)


def _noticed(*targets: ObjectClass, score: float = 0.9) -> tuple[Detection, ...]:
    return tuple(Detection(Box(9 * n, 0, 8, 8), score, object_class=target) for n, target in enumerate(targets))


@pytest.mark.parametrize(
    ("from_afar", "closer", "holds"),
    [
        ((), _noticed(ObjectClass.NUCLEATED, score=0.2), True),
        (_noticed(ObjectClass.NUCLEATED), _noticed(*[ObjectClass.RED_CELL] * 3), True),
        (
            _noticed(ObjectClass.NUCLEATED),
            _noticed(*[ObjectClass.NUCLEATED] * 3),
            False,
        ),  # the lobes of one large nucleus
        (_noticed(ObjectClass.NUCLEATED, score=0.3), _noticed(*[ObjectClass.NUCLEATED] * 3), True),
        (_noticed(ObjectClass.NUCLEATED, score=0.3), _noticed(*[ObjectClass.RED_CELL] * 2), False),
    ],
)
def test_detect_objects_keeps_a_trial_that_finds_more(
    detector: OnnxModel[DetectorCard],
    monkeypatch: pytest.MonkeyPatch,
    from_afar: tuple[Detection, ...],
    closer: tuple[Detection, ...],
    holds: bool,
) -> None:
    looks = iter(((), from_afar, closer, closer))
    monkeypatch.setattr(detect, "_detect_at_scale", lambda *_: next(looks))
    found = detect.detect_objects(Field("huge", np.zeros((3000, 4000, 3), np.uint8)), detector)
    assert found == (closer if holds else from_afar)


def test_detect_objects_passes_depend_on_the_size_of_red_cells(
    detector: OnnxModel[DetectorCard], field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    look = detect._detect_at_scale

    def noting(seen: Field, model: OnnxModel[DetectorCard], scale: float, min_score: float) -> tuple[Detection, ...]:
        sides.append(round(scale * max(seen.rgb.shape[:2])))
        return look(seen, model, scale, min_score)

    monkeypatch.setattr(detect, "_detect_at_scale", noting)
    detect_cells(Field("near", np.ascontiguousarray(field.rgb[:360, :480])), detector)
    assert sides == [192]
    sides.clear()
    detect_cells(Field("far", np.tile(field.rgb, (3, 3, 1))), detector)
    assert sides[:2] == [192, 320]
    assert len(sides) == 3
    assert sides[2] > 640


def test_detect_objects_refines_at_most_twice(
    detector: OnnxModel[DetectorCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From afar clumps look like red cells of 150 pixels; from nearer they are of 40, and of 20 at last."""
    scales: list[float] = []
    seen_px = iter((150, 150, 40, 20))

    def look(_: Field, __: OnnxModel[DetectorCard], scale: float, ___: float) -> tuple[Detection, ...]:
        scales.append(scale)
        side = next(seen_px)
        return (Detection(Box(0, 0, side, side), 0.9, object_class=ObjectClass.RED_CELL),)

    monkeypatch.setattr(detect, "_detect_at_scale", look)
    detect.detect_objects(Field("huge", np.zeros((3000, 4000, 3), np.uint8)), detector)
    card = detector.card
    by_clumps = card.target_red_cell_px / 150
    assert scales == pytest.approx([card.preview_px / 4000, card.input_long_side_px / 4000, by_clumps, 2560 / 4000])


def test_detect_cells_keeps_and_marks_a_cell_cut_by_the_border(detector: OnnxModel[DetectorCard], field: Field) -> None:
    (whole,) = detect_cells(field, detector)
    assert not whole.cut_by_border
    middle = whole.box.x + whole.box.width // 2
    left = Field("cut", np.ascontiguousarray(field.rgb[:, :middle]))
    cut = [d for d in detect_cells(left, detector) if d.box.x + d.box.width > middle - 10]
    assert [d.cut_by_border for d in cut] == [True]


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (214, 180, 190)])
def test_detect_cells_in_empty_field_finds_none(detector: OnnxModel[DetectorCard], color: tuple[int, int, int]) -> None:
    assert detect_cells(Field("empty", np.full((480, 640, 3), color, np.uint8)), detector) == ()


def test_detect_cells_returns_reading_order(detector: OnnxModel[DetectorCard], field: Field) -> None:
    stacked = Field("two", np.vstack([np.hstack([field.rgb, field.rgb]), np.hstack([field.rgb, field.rgb])]))
    corners = [(d.box.y, d.box.x) for d in detect_cells(stacked, detector)]
    assert len(corners) == 4
    assert corners == sorted(corners)


@pytest.mark.parametrize("shape", [(1, 1, 3), (10, 3000, 3), (7, 5, 3)])
def test_detect_cells_accepts_any_shape(detector: OnnxModel[DetectorCard], shape: tuple[int, int, int]) -> None:
    assert detect_cells(Field("odd", np.full(shape, 200, np.uint8)), detector) == ()


def test_non_max_suppression_drops_a_worse_box_that_holds_a_better_one() -> None:
    boxes = np.array([[0, 0, 40, 40], [5, 5, 25, 25], [60, 0, 80, 20]], np.float32)
    assert non_max_suppression(boxes, np.array([0.4, 0.9, 0.5], np.float32), 0.5).tolist() == [1, 2]


def test_non_max_suppression_keeps_the_best_and_drops_parts() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [9, 0, 19, 10], [2, 2, 6, 6]], np.float32)
    scores = np.array([0.9, 0.95, 0.5, 0.8], np.float32)
    # 0 overlaps 1 with IoU 90/110; 2 touches 1 with IoU 20/180; 3 lies wholly within 1.
    assert non_max_suppression(boxes, scores, iou_threshold=0.5).tolist() == [1, 2]


def _faint(
    card: DetectorCard, box: Box, score: float = 0.3, target: ObjectClass = ObjectClass.NUCLEATED
) -> list[Detection]:
    return filter_by_score([Detection(box, score, object_class=target)], _SMEAR, card)


_SMEAR = Field("smear", cv2.circle(np.full((300, 400, 3), 230, np.uint8), (120, 150), 40, (110, 40, 140), -1))
_AROUND_THE_NUCLEUS = Box(70, 100, 100, 100)


def test_filter_by_score_keeps_a_low_score_cell_with_a_nucleus(detector: OnnxModel[DetectorCard]) -> None:
    card = detector.card.model_copy(update={"score_threshold": 0.45, "low_score_threshold": 0.2})
    assert len(_faint(card, _AROUND_THE_NUCLEUS)) == 1
    assert _faint(card, Box(270, 100, 100, 100)) == []  # glass
    assert _faint(card, Box(110, 140, 20, 20)) == []  # a speck of the nucleus
    assert _faint(card, _AROUND_THE_NUCLEUS, score=0.19) == []
    assert _faint(card, _AROUND_THE_NUCLEUS, target=ObjectClass.RED_CELL) == []
    assert _faint(card.model_copy(update={"low_score_threshold": None}), _AROUND_THE_NUCLEUS) == []


def test_filter_by_score_segments_no_nuclei_for_confident_cells(
    detector: OnnxModel[DetectorCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detect, "find_cells_by_nuclei", lambda _: pytest.fail("nuclei were looked for"))
    assert len(_faint(detector.card, Box(270, 100, 100, 100), score=0.5)) == 1


def test_detect_cells_of_unfamiliar_stain_are_confirmed_by_nuclei(
    detector: OnnxModel[DetectorCard],
) -> None:
    """As on Raabin's fields in training without them (MODEL_CARD); here every score is halved."""
    for path in sorted(DEMO.iterdir()):
        field = read_field(path)
        objects = [d for d in detect.detect_objects(field, detector) if d.object_class is ObjectClass.NUCLEATED]
        halved = [replace(d, score=d.score / 2) for d in objects]
        found = filter_by_score(halved, field, detector.card)
        assert {d.box for d in found} == {d.box for d in objects if d.score >= detector.card.score_threshold}, path.name

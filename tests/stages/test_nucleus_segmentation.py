"""White cells found by their nuclei, without learning."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from wbctool.imaging.reader import read_field
from wbctool.stages.nucleus_segmentation import find_cells_by_nuclei
from wbctool.types.cells import Box, Field

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())
GLASS, RED_CELL, NUCLEUS = (230, 225, 220), (225, 165, 160), (95, 50, 150)


def smear(nuclei: list[tuple[int, int, int]]) -> Field:
    """Pale red cells all over; nuclei as (x, y, radius)."""
    rgb = np.full((480, 640, 3), GLASS, np.uint8)
    for x in range(40, 640, 90):
        for y in range(40, 480, 90):
            cv2.circle(rgb, (x, y), 36, RED_CELL, -1)
    for x, y, radius in nuclei:
        cv2.circle(rgb, (x, y), radius, NUCLEUS, -1)
    return Field("smear", rgb)


def test_find_cells_two_nuclei_returns_two_cells_of_their_size() -> None:
    found = find_cells_by_nuclei(smear([(150, 150, 50), (450, 320, 40)]))
    assert len(found) == 2
    assert found[0].box.iou(Box(85, 85, 130, 130)) > 0.85  # the nucleus of 100 pixels, grown by 1.3
    assert found[1].box.iou(Box(398, 268, 104, 104)) > 0.85
    assert found[0].score == 1.0
    assert found[1].score == pytest.approx((40 / 50) ** 2, abs=0.1)


def test_find_cells_joins_lobes_and_drops_platelets() -> None:
    found = find_cells_by_nuclei(smear([(300, 240, 28), (350, 240, 28), (325, 285, 26), (80, 400, 9)]))
    assert len(found) == 1


def test_find_cells_under_other_light_and_scale_finds_the_cell() -> None:
    smears = smear([(320, 240, 48)])
    dim = Field("dim", (smears.rgb * np.array([0.8, 0.7, 0.6])).astype(np.uint8))
    large = Field("large", cv2.resize(smears.rgb, (1280, 960)))
    (plain,), (dimmed,), (larger,) = map(find_cells_by_nuclei, (smears, dim, large))
    assert plain.box.iou(dimmed.box) > 0.85
    assert larger.box.iou(Box(2 * plain.box.x, 2 * plain.box.y, 2 * plain.box.width, 2 * plain.box.height)) > 0.85


def test_find_cells_in_blank_field_returns_none() -> None:
    assert find_cells_by_nuclei(Field("blank", np.full((90, 120, 3), 200, np.uint8))) == ()


def test_find_cells_on_real_fields_returns_cells() -> None:
    found = [find_cells_by_nuclei(read_field(path)) for path in DEMO]
    assert len(DEMO) - 1 <= sum(map(len, found)) <= len(DEMO) + 2  # they show nine


def test_find_cells_with_known_size_finds_small_cells_of_a_large_field() -> None:
    corner = smear([(150, 150, 50)]).rgb
    rgb = np.tile(smear([]).rgb, (6, 6, 1))
    rgb[: corner.shape[0], : corner.shape[1]] = corner
    field = Field("large", rgb)
    assert find_cells_by_nuclei(field) == ()  # a thousandth of the field's pixels is more than the nucleus has
    (found,) = find_cells_by_nuclei(field, cell_px=130)
    assert found.box.iou(Box(85, 85, 130, 130)) > 0.6

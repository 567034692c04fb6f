"""The picture inside a frame is found; an ordinary field has none."""

import cv2
import numpy as np
import pytest
from conftest import DEMO

from wbctool.imaging.frame import find_image_area
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import downscale

FIELDS = sorted(DEMO.glob("slide-0[12]/*.jpg"))


@pytest.fixture(params=FIELDS[::4], ids=lambda path: path.stem)
def field(request):
    return downscale(read_field(request.param).rgb, 128, 96)


def ring(shape, radius, x=0.5, y=0.5):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - y * shape[0], columns - x * shape[1]) < radius * shape[0]


def share_of(found, expected):
    """Return how much of the expected picture was found, and how much of what was found is not in it."""
    return (found & expected).sum() / expected.sum(), (found & ~expected).sum() / expected.sum()


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: path.stem)
def test_find_image_area_of_an_ordinary_field_is_none(path):
    rgb = read_field(path).rgb
    for width in (128, 256):
        assert find_image_area(downscale(rgb, width, width * 3 // 4)) is None


@pytest.mark.parametrize("color", [(255, 255, 255), (232, 228, 220), (0, 0, 0)])
def test_find_image_area_of_glass_alone_is_none(color):
    assert find_image_area(np.full((96, 128, 3), color, np.uint8)) is None


def test_find_image_area_of_glass_with_cells_in_the_middle_is_none():
    rgb = np.full((96, 128, 3), (232, 228, 220), np.uint8)
    for x in (30, 64, 98):
        cv2.circle(rgb, (x, 48), 16, (200, 150, 150), -1)
    assert find_image_area(rgb) is None


@pytest.mark.parametrize(
    "sides",
    [
        (0, 0, 16, 16),
        (12, 12, 0, 0),
        (3, 3, 3, 3),
        (0, 10, 0, 0),
        (9, 0, 0, 0),
        (0, 0, 20, 0),
        (8, 8, 12, 12),
        (20, 20, 30, 30),
    ],
)
@pytest.mark.parametrize("color", [(0, 0, 0), (16, 16, 16), (255, 255, 255), (20, 60, 200), (255, 105, 180)])
def test_find_image_area_leaves_bars_and_borders_out(field, sides, color):
    framed = cv2.copyMakeBorder(field, *sides, cv2.BORDER_CONSTANT, value=color)
    expected = cv2.copyMakeBorder(np.ones(field.shape[:2], np.uint8), *sides, cv2.BORDER_CONSTANT, value=0) > 0
    found, beyond = share_of(find_image_area(framed), expected)
    assert found > 0.9
    assert beyond == 0


def test_find_image_area_leaves_a_caption_out(field):
    framed = cv2.copyMakeBorder(field, 0, 14, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(framed, "100x 20 um", (6, 107), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
    picture = find_image_area(framed)
    assert not picture[96:].any()
    assert picture[:95].all()


@pytest.mark.parametrize(("radius", "x", "y"), [(0.49, 0.5, 0.5), (0.62, 0.5, 0.5), (0.5, 0.58, 0.45), (0.7, 0.4, 0.5)])
@pytest.mark.parametrize("level", [0, 12, 45, 100, (90, 60, 30), (20, 30, 100), (20, 70, 30)])
def test_find_image_area_leaves_the_ring_of_an_eyepiece_out(field, radius, x, y, level):
    inside = ring(field.shape, radius, x, y)
    noise = np.random.default_rng(0).integers(0, 9, field.shape)
    framed = np.where(inside[..., None], field, level + noise).astype(np.uint8)
    found, beyond = share_of(find_image_area(framed), inside)
    assert found > 0.75
    assert beyond < 0.01


def test_find_image_area_leaves_the_black_of_a_small_eyepiece_image_out(field):
    inside = ring(field.shape, 0.22)
    framed = np.where(inside[..., None], field, 5).astype(np.uint8)
    found, beyond = share_of(find_image_area(framed), inside)
    assert found > 0.5
    assert beyond < 0.01


def test_find_image_area_of_an_almost_black_image_is_none(field):
    assert find_image_area(np.where(ring(field.shape, 0.1)[..., None], field, 0).astype(np.uint8)) is None


@pytest.mark.parametrize("shape", [(60, 80, 3), (60, 4, 3), (4, 80, 3), (1, 1, 3)])
def test_find_image_area_of_one_color_is_none(shape: tuple[int, int, int]) -> None:
    assert find_image_area(np.full(shape, 210, np.uint8)) is None

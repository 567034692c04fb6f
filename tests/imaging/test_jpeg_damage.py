"""A damaged JPEG goes on in another brightness; frames, captions and photographs side by side are no damage."""

import cv2
import numpy as np
import pytest
from conftest import DEMO

from wbctool.imaging.jpeg_damage import describe_jpeg_damage
from wbctool.imaging.reader import read_field

FIELDS = sorted((DEMO / "slide-01").iterdir())


@pytest.fixture(scope="module")
def field():
    return read_field(FIELDS[0]).rgb


def shift(rgb, row, levels, first_column=0):
    """The image with another brightness behind a row of blocks, in its first row only from a column on."""
    shifted = rgb.astype(int)
    shifted[row:] += levels
    shifted[row : row + 16, :first_column] -= levels
    return np.clip(shifted, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("position", "row"), [(4582, 96), (5358, 112), (7298, 144), (8365, 176)])
def test_describe_jpeg_damage_one_flipped_bit_in_a_jpeg(tmp_path, position, row):
    """The decoder says nothing."""
    damaged = bytearray(FIELDS[0].read_bytes())
    damaged[position] ^= 1
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    assert describe_jpeg_damage(read_field(tmp_path / "damaged.jpg").rgb) == f"at row {row} of 480"


@pytest.mark.parametrize("levels", [(16, 16, 16), (-40, -40, -40), (0, 0, 25)])
@pytest.mark.parametrize("first_column", [0, 200, 500])
def test_describe_jpeg_damage_brighter_darker_or_of_another_color(field, levels, first_column):
    assert describe_jpeg_damage(shift(field, 240, levels, first_column)) in {"at row 240 of 480", "at row 256 of 480"}


@pytest.mark.parametrize(
    ("quarters", "place"), [(1, "column 160 of 477"), (2, "row 317 of 477"), (3, "column 317 of 477")]
)
def test_describe_jpeg_damage_turned_afterwards(field, quarters, place):
    """Rows are missing below, where blocks end: those of a JPEG begin at its upper side."""
    damaged = shift(field, 160, (30, 20, 10))[:477]
    assert describe_jpeg_damage(np.rot90(damaged, quarters)) == f"at {place}"


def with_frame(rgb):
    framed = rgb.copy()
    framed[:80] = 0
    return framed


def with_caption(rgb):
    captioned = rgb.copy()
    captioned[400:] = 255
    cv2.putText(captioned, "100x oil, 10 um", (30, 450), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    return captioned


def with_another_photograph(rgb):
    return np.vstack([rgb, np.clip(read_field(FIELDS[1]).rgb.astype(int) - 30, 0, 255).astype(np.uint8)])


def with_uneven_light(rgb):
    return (rgb * np.linspace(1, 0.5, len(rgb))[:, None, None]).astype(np.uint8)


def with_blurred_step(rgb):
    light = cv2.GaussianBlur(shift(np.full_like(rgb, 100), 240, (40, 40, 40)).astype(np.float32), (0, 0), 6) / 140
    return (rgb * light).astype(np.uint8)


def with_translucent_bar(rgb):
    """The cells show through."""
    covered = rgb.copy()
    covered[432:] = covered[432:] * 0.8
    return covered


def stitched_of_different_exposures(rgb):
    """Of four photographs: seams in both directions."""
    stitched = shift(rgb, 240, (14, 14, 14))
    return shift(stitched.transpose(1, 0, 2), 320, (-18, -18, -18)).transpose(1, 0, 2)


def with_reticle(rgb):
    lined = rgb.copy()
    for line in range(3):
        lined[line::80] = lined[:, line::80] = 0
    return lined


def as_it_is(rgb):
    return rgb


def with_a_slight_step(rgb):
    return shift(rgb, 240, (4, 4, 4))


@pytest.mark.parametrize(
    "change",
    [
        *(as_it_is, with_frame, with_caption, with_another_photograph),
        *(with_translucent_bar, stitched_of_different_exposures),
        *(with_reticle, with_uneven_light, with_blurred_step, with_a_slight_step),
    ],
)
@pytest.mark.parametrize("sigma_px", [0, 2])
def test_describe_jpeg_damage_intact_is_empty(field, change, sigma_px):
    blurred = cv2.GaussianBlur(field, (0, 0), sigma_px) if sigma_px else field
    assert describe_jpeg_damage(change(blurred)) == ""


def test_describe_jpeg_damage_every_demo_field_is_intact():
    assert {describe_jpeg_damage(read_field(path).rgb) for path in DEMO.rglob("*.jpg")} == {""}


def test_describe_jpeg_damage_small_or_flat_image_is_not_judged():
    assert describe_jpeg_damage(np.zeros((40, 400, 3), np.uint8)) == ""
    assert describe_jpeg_damage(np.full((400, 400, 3), 200, np.uint8)) == ""

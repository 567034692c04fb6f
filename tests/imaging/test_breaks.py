"""A damaged JPEG goes on in another brightness; frames, captions and photographs side by side are no damage."""

import cv2
import numpy as np
import pytest
from conftest import DEMO

from wbctool.imaging.breaks import describe_break
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


@pytest.mark.parametrize("position", [4000, 5358, 6910, 8365])
def test_describe_break_one_flipped_bit_in_a_jpeg(tmp_path, position):
    """The decoder says nothing."""
    damaged = bytearray(FIELDS[0].read_bytes())
    damaged[position] ^= 1
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    assert " of 480 on" in describe_break(read_field(tmp_path / "damaged.jpg").rgb)


@pytest.mark.parametrize("levels", [(12, 12, 12), (-40, -40, -40), (0, 0, 25)])
@pytest.mark.parametrize("first_column", [0, 200, 500])
def test_describe_break_brighter_darker_or_of_another_color(field, levels, first_column):
    assert describe_break(shift(field, 240, levels, first_column)) in {
        "from row 240 of 480 on",
        "from row 256 of 480 on",
    }


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_describe_break_turned_afterwards(field, quarters):
    cropped = shift(field, 160, (30, 20, 10))[: 480 - 3, : 640 - 5]
    assert describe_break(np.rot90(cropped, quarters))


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
        *(with_reticle, with_uneven_light, with_blurred_step, with_a_slight_step),
    ],
)
@pytest.mark.parametrize("sigma_px", [0, 2])
def test_describe_break_intact_is_empty(field, change, sigma_px):
    blurred = cv2.GaussianBlur(field, (0, 0), sigma_px) if sigma_px else field
    assert describe_break(change(blurred)) == ""


def test_describe_break_every_demo_field_is_intact():
    assert {describe_break(read_field(path).rgb) for path in DEMO.rglob("*.jpg")} == {""}


def test_describe_break_small_or_flat_image_is_not_judged():
    assert describe_break(np.zeros((40, 400, 3), np.uint8)) == ""
    assert describe_break(np.full((400, 400, 3), 200, np.uint8)) == ""

"""Squares around boxes, by hand."""

import numpy as np

from wbctool.imaging.crop import crop_cells
from wbctool.types.cells import Box, Field


def _field(height: int, width: int) -> Field:
    """Every pixel names its place: red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return Field("f", np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))


def test_the_square_is_centred_on_the_box_and_wider_by_the_margin() -> None:
    (crop,) = crop_cells(_field(100, 200), [Box(x=50, y=40, width=20, height=10)], margin=1.5)
    assert crop.side_px == 30
    assert crop.rgb[0, 0].tolist() == [45, 30, 0]  # center (60, 45) less 15
    assert crop.rgb[-1, -1].tolist() == [74, 59, 0]


def test_near_the_border_the_square_moves_inwards_and_shows_real_pixels() -> None:
    (crop,) = crop_cells(_field(100, 200), [Box(x=190, y=0, width=10, height=10)], margin=2.0)
    assert crop.side_px == 20
    assert crop.rgb[0, 0].tolist() == [180, 0, 0]
    assert crop.rgb[-1, -1].tolist() == [199, 19, 0]


def test_a_field_smaller_than_the_square_is_mirrored() -> None:
    (crop,) = crop_cells(_field(10, 40), [Box(x=10, y=0, width=20, height=10)], margin=1.0)
    assert crop.rgb.shape == (20, 20, 3)
    assert crop.rgb[:, 0, 1].tolist() == [4, 3, 2, 1, 0, *range(10), 9, 8, 7, 6, 5]


def test_crops_keep_the_boxes_order() -> None:
    boxes = [Box(50, 50, 10, 10), Box(0, 0, 30, 30), Box(20, 20, 20, 20)]
    assert [c.side_px for c in crop_cells(_field(100, 100), boxes, margin=1.0)] == [10, 30, 20]

"""Cutting the square of native pixels around each cell."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from wbctool.types.cells import Box, Crop, Field


def crop_cells(field: Field, boxes: Sequence[Box], margin: float) -> tuple[Crop, ...]:
    """A square crop for each box, in order.

    margin: the crop's side over the box's longer side. The square is centred on the box; near the field's border it is
    shifted inwards, so that all its pixels are real ones. Only where the field is smaller than the square is it
    mirrored at its edges.
    """
    return tuple(Crop(_crop_square(field.rgb, box, margin)) for box in boxes)


def square_crop_box(box: Box, margin: float, height: int, width: int) -> Box:
    """The square that :func:`crop_cells` cuts from a field of height × width pixels."""
    side = max(1, round(box.longer_side_px * margin))
    x, y = (round(centre - side / 2) for centre in box.center)
    return Box(max(0, min(x, width - side)), max(0, min(y, height - side)), side, side)


def _crop_square(rgb: np.ndarray, box: Box, margin: float) -> np.ndarray:
    square = square_crop_box(box, margin, *rgb.shape[:2])
    side = square.longer_side_px
    patch = rgb[square.y : square.y + side, square.x : square.x + side]
    pad_y, pad_x = side - patch.shape[0], side - patch.shape[1]
    if pad_y or pad_x:
        top, left = pad_y // 2, pad_x // 2
        patch = cv2.copyMakeBorder(patch, top, pad_y - top, left, pad_x - left, cv2.BORDER_REFLECT)
    return np.ascontiguousarray(patch, dtype=np.uint8)

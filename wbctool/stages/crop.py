"""Cutting the square of native pixels around each cell."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from wbctool.records import Box, Crop, Field


def crop_cells(field: Field, boxes: Sequence[Box], margin: float) -> tuple[Crop, ...]:
    """A square crop for each box, in order.

    margin: the crop's side over the box's longer side. The square is centred on the box; near the field's border it is
    shifted inwards, so that all its pixels are real ones. Only where the field is smaller than the square is it
    mirrored at its edges.
    """
    return tuple(Crop(_cut(field.rgb, box, margin)) for box in boxes)


def square_around(box: Box, margin: float, height: int, width: int) -> Box:
    """The square that :func:`crop_cells` cuts from a field of height × width pixels."""
    side = max(1, round(box.side_px * margin))
    x, y = (round(centre - side / 2) for centre in box.centre)
    return Box(max(0, min(x, width - side)), max(0, min(y, height - side)), side, side)


def _cut(rgb: np.ndarray, box: Box, margin: float) -> np.ndarray:
    square = square_around(box, margin, *rgb.shape[:2])
    side = square.side_px
    inside = rgb[square.y : square.y + side, square.x : square.x + side]
    below, right = side - inside.shape[0], side - inside.shape[1]
    if below or right:
        top, left = below // 2, right // 2
        inside = cv2.copyMakeBorder(inside, top, below - top, left, right - left, cv2.BORDER_REFLECT)
    return np.ascontiguousarray(inside, dtype=np.uint8)

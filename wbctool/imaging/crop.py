"""Crop a square of native pixels around each cell, and know it again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.types.cells import Box, Crop, Field


def crop_cells(field: Field, boxes: Sequence[Box], margin: float) -> tuple[Crop, ...]:
    """Crop one square per box.

    A square is centered on its box. Near the field's border it is shifted inwards, so that all its pixels are real;
    only if the field is smaller than the square are its edges mirrored.

    Args:
        field: The image that the boxes lie in.
        boxes: Cells, in native pixels.
        margin: A crop's side divided by the longer side of its box.

    Returns:
        The crops in the order of ``boxes``.
    """
    return tuple(Crop(_crop_square(field.rgb, box, margin)) for box in boxes)


def hash_crop(crop: Crop) -> str:
    """Return the SHA-256 of a crop's side and pixels, by which a cell is known again."""
    return hashlib.sha256(f"{crop.side_px} ".encode() + crop.rgb.tobytes()).hexdigest()


def square_crop_box(box: Box, margin: float, height: int, width: int) -> Box:
    """Return the square that :func:`crop_cells` crops around a box.

    Args:
        box: A cell, in native pixels.
        margin: The square's side divided by the longer side of the box.
        height: Height of the field in pixels.
        width: Width of the field in pixels.

    Returns:
        The square in native pixels. It exceeds the field only if the field is smaller than the square.
    """
    side = max(1, round(box.longer_side_px * margin))
    x, y = (round(center - side / 2) for center in box.center)
    return Box(max(0, min(x, width - side)), max(0, min(y, height - side)), side, side)


def _crop_square(rgb: NDArray[np.uint8], box: Box, margin: float) -> NDArray[np.uint8]:
    """Crop one square, mirrored at the edges of a field smaller than it."""
    square = square_crop_box(box, margin, *rgb.shape[:2])
    side = square.longer_side_px
    inside = rgb[square.y : square.y + side, square.x : square.x + side]
    missing_rows, missing_columns = side - inside.shape[0], side - inside.shape[1]
    if missing_rows or missing_columns:
        top, left = missing_rows // 2, missing_columns // 2
        borders = top, missing_rows - top, left, missing_columns - left
        inside = cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REFLECT).astype(np.uint8, copy=False)
    return np.ascontiguousarray(inside, dtype=np.uint8)

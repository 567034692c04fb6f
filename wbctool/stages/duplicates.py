"""Fields that were photographed or saved twice, perhaps turned or mirrored, found by thumbnails of their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale
from wbctool.types.arrays import FloatArray
from wbctool.types.slides import FieldQuality

_THUMBNAIL_PX = 16
_MIN_FILLED_SHARE = 0.95  # of its bounding rectangle; less of it is the round picture of an eyepiece


def make_thumbnail(rgb: NDArray[np.uint8], image_area: NDArray[np.bool_] | None = None) -> FloatArray:
    """Make the thumbnail by which :func:`find_duplicates` compares fields.

    Args:
        rgb: (H, W, 3) uint8 RGB, a field of any scale.
        image_area: (H, W) bool, the image inside the field's frame, because fields in the same frame are not the same
            field; None without a frame.

    Returns:
        (256,) float32 of mean 0 and Euclidean norm 1; zeros for a field of one gray level.
    """
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if image_area is not None:
        gray = gray[_find_rectangle(image_area)]
    small = downscale(gray.astype(np.uint8, copy=False), _THUMBNAIL_PX, _THUMBNAIL_PX).astype(np.float32).ravel()
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def _find_rectangle(image_area: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the rows and columns of a picture; of a round one, the largest rectangle in its ellipse."""
    indices = (np.flatnonzero(image_area.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(i[0]), int(i[-1]) + 1) for i in indices)
    if image_area[rows, columns].mean() < _MIN_FILLED_SHARE:
        return _inscribe(rows), _inscribe(columns)
    return rows, columns


def _inscribe(side: slice) -> slice:
    """Return the side of the largest rectangle in an ellipse, from that of the rectangle around it."""
    margin = round((side.stop - side.start) * (1 - 0.5**0.5) / 2)
    return slice(side.start + margin, side.stop - margin)


def find_duplicates(fields: Sequence[FieldQuality], correlation: float) -> dict[str, str]:
    """Find fields that were photographed or saved twice, perhaps turned by a quarter or mirrored.

    Args:
        fields: The measured quality of a slide's fields, in order.
        correlation: Two thumbnails that correlate more show the same cells.

    Returns:
        For each duplicate field, the name of the first field with the same content.
    """
    with_cells = [f for f in fields if f.thumbnail]
    if not with_cells:
        return {}
    thumbnails = np.stack([np.frombuffer(f.thumbnail, np.float32) for f in with_cells])
    duplicate_of = {}
    for index, row in enumerate(thumbnails):
        is_duplicate = (thumbnails[:index] @ _orientations(row)).max(axis=1) > correlation
        if is_duplicate.any():
            duplicate_of[with_cells[index].field] = with_cells[int(is_duplicate.argmax())].field
    return duplicate_of


def _orientations(thumbnail: FloatArray) -> FloatArray:
    """Return a thumbnail turned by each number of quarters, and mirrored and turned, (256, 8)."""
    square = thumbnail.reshape(_THUMBNAIL_PX, _THUMBNAIL_PX)
    turned = [np.rot90(either, quarters).ravel() for either in (square, square.T) for quarters in range(4)]
    return np.stack(turned, axis=1)

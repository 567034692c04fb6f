"""Fields that were photographed or saved twice, found by small thumbnails of their pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale
from wbctool.types.arrays import FloatArray
from wbctool.types.slides import FieldQuality

_THUMBNAIL_PX = 16
_MAX_BAR_STD = 4.0  # gray levels, of a row or column of one color but for noise and compression
_MAX_RING_FRACTION = 0.3  # of the background's brightness, of the corners around an eyepiece's picture
_BACKGROUND_QUANTILE = 0.98  # the quantile of the gray levels that is taken as background


def make_thumbnail(rgb: NDArray[np.uint8]) -> FloatArray:
    """Make the thumbnail by which :func:`find_duplicates` compares fields.

    Args:
        rgb: (H, W, 3) uint8 RGB, a field of any scale.

    Returns:
        (256,) float32 of mean 0 and Euclidean norm 1; zeros for a field of one gray level.
    """
    gray = crop_to_picture(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False))
    small = downscale(gray.astype(np.uint8, copy=False), _THUMBNAIL_PX, _THUMBNAIL_PX).astype(np.float32).ravel()
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def crop_to_picture(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crop an image to the picture inside its frame, because fields in the same frame are not the same field.

    Args:
        gray: (H, W) uint8, a field at any scale, perhaps with bars at its sides or the ring of an eyepiece.

    Returns:
        The picture without bars and, if its corners are dark, the largest rectangle in its ellipse; the whole image if
        nothing would be left.
    """
    inside = gray
    for axis in (1, 0, 1):  # what is left between the bars at two sides may show that the others are of one color
        varied = np.flatnonzero(inside.std(axis=axis) > _MAX_BAR_STD)
        if not len(varied):
            return gray
        inside = np.take(inside, range(varied[0], varied[-1] + 1), axis=1 - axis)
    corners = inside[[0, 0, -1, -1], [0, -1, 0, -1]]
    if corners.max() > _MAX_RING_FRACTION * np.quantile(inside, _BACKGROUND_QUANTILE):
        return inside
    top, left = (round(side * (1 - 0.5**0.5) / 2) for side in inside.shape)
    height, width = inside.shape
    return inside[top : height - top, left : width - left]


def find_duplicates(fields: Sequence[FieldQuality], correlation: float) -> dict[str, str]:
    """Find fields that were photographed or saved twice.

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
        is_duplicate = thumbnails[:index] @ row > correlation
        if is_duplicate.any():
            duplicate_of[with_cells[index].field] = with_cells[int(is_duplicate.argmax())].field
    return duplicate_of

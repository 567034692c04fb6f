"""The small pictures of a report, as WebP: a third of a JPEG's bytes for the same look. Pure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from wbctool.records import Crop, Field, FieldPicture

if TYPE_CHECKING:
    from wbctool.records import Rgb

CELL_PX = 128
FIELD_PX = 480
_CELL_QUALITY = 82
_FIELD_QUALITY = 50
_CELL_EFFORT = 2  # of 6: a run makes a picture of every cell
_FIELD_EFFORT = 0  # and of every field with cells


def cell_picture(crop: Crop) -> bytes:
    """A WebP of a crop, of at most CELL_PX a side; a smaller crop keeps its pixels."""
    return _webp(_reduced(crop.rgb, CELL_PX), _CELL_QUALITY, _CELL_EFFORT)


def enhanced_picture(rgb: Rgb) -> bytes:
    """A WebP of a prepared crop. rgb: (128, 128, 3) uint8, RGB."""
    return _webp(rgb, _CELL_QUALITY, _CELL_EFFORT)


def field_picture(field: Field) -> FieldPicture:
    """A field, its longer side reduced to FIELD_PX."""
    height, width = field.rgb.shape[:2]
    webp = _webp(_reduced(field.rgb, FIELD_PX), _FIELD_QUALITY, _FIELD_EFFORT)
    return FieldPicture(field.name, width, height, webp)


def _reduced(rgb: Rgb, side_px: int) -> Rgb:
    scale = side_px / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _webp(rgb: Rgb, quality: int, effort: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=quality, method=effort)
    return buffer.getvalue()

"""The small pictures of a report, as WebP: a third of a JPEG's bytes for the same look. Pure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image

from wbctool.records import Crop, Field, FieldPicture

if TYPE_CHECKING:
    from wbctool.records import Rgb

CELL_PX = 128
FIELD_PX = 480
_CELL_QUALITY = 82
_FIELD_QUALITY = 50
_EFFORT = 2  # of 6: a run makes a picture of every cell


def cell_picture(crop: Crop) -> bytes:
    """A WebP of a crop, of at most CELL_PX a side; a smaller crop keeps its pixels."""
    return _webp(_reduced(Image.fromarray(crop.rgb), CELL_PX), _CELL_QUALITY)


def enhanced_picture(rgb: Rgb) -> bytes:
    """A WebP of a prepared crop. rgb: (128, 128, 3) uint8, RGB."""
    return _webp(Image.fromarray(rgb), _CELL_QUALITY)


def field_picture(field: Field) -> FieldPicture:
    """A field, its longer side reduced to FIELD_PX."""
    height, width = field.rgb.shape[:2]
    return FieldPicture(
        field.name, width, height, _webp(_reduced(Image.fromarray(field.rgb), FIELD_PX), _FIELD_QUALITY)
    )


def _reduced(image: Image.Image, side_px: int) -> Image.Image:
    scale = side_px / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=_EFFORT)
    return buffer.getvalue()

"""The small images of the reports and of label pages.

Cells as WebP, a third of a JPEG's bytes for the same look; fields as JPEG, made in a fifth of WebP's time: a run makes
one of every field with cells, and a page shows few of them.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    Image,
    WebPImagePlugin,  # noqa: F401  Pillow would look through all its plugins for it
)

from wbctool.imaging.resize import downscale
from wbctool.types.cells import Crop, Field
from wbctool.types.results import FieldThumbnail

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb


CELL_PX = 128
FIELD_PX = 480
_CELL_QUALITY = 82
_LARGE_QUALITY = 88
_FIELD_QUALITY = 50
_CELL_EFFORT = 2  # of 6: a run makes one of every cell


def make_cell_thumbnail(crop: Crop) -> bytes:
    """Encode a crop as WebP of at most CELL_PX a side; a smaller crop keeps its pixels."""
    return _encode_webp(_fit_within(crop.rgb, CELL_PX))


def make_large_thumbnail(rgb: Rgb, side_px: int) -> bytes:
    """Encode (H, W, 3) uint8 RGB as WebP for a page that shows it large, its longer side reduced to side_px."""
    return _encode_webp(_fit_within(rgb, side_px), _LARGE_QUALITY)


def make_super_resolved_thumbnail(rgb: Rgb) -> bytes:
    """Encode a prepared crop, (128, 128, 3) uint8 RGB, as WebP."""
    return _encode_webp(rgb)


def make_field_thumbnail(field: Field) -> FieldThumbnail:
    """Encode a field as JPEG, its longer side reduced to FIELD_PX."""
    height, width = field.rgb.shape[:2]
    thumbnail = np.ascontiguousarray(_fit_within(field.rgb, FIELD_PX))
    jpeg = simplejpeg.encode_jpeg(thumbnail, _FIELD_QUALITY, "RGB", "420", fastdct=True)
    return FieldThumbnail(field.name, width, height, jpeg)


def decode_gray(thumbnail: FieldThumbnail, side_px: int) -> NDArray[np.uint8]:
    """Read the brightness of a field's thumbnail, reduced; an eighth of the size takes a third of the time.

    Args:
        thumbnail: The thumbnail.
        side_px: The longer side of the result; that of the thumbnail if it is smaller.

    Returns:
        (H, W) uint8.
    """
    scale = min(1.0, side_px / max(thumbnail.width, thumbnail.height))
    width, height = (max(1, round(side * scale)) for side in (thumbnail.width, thumbnail.height))
    gray = simplejpeg.decode_jpeg(
        thumbnail.jpeg, "GRAY", fastdct=True, min_width=width, min_height=height, min_factor=1
    )
    return downscale(gray[..., 0], width, height) if gray.shape[:2] != (height, width) else gray[..., 0]


def _fit_within(rgb: Rgb, side_px: int) -> Rgb:
    """Reduce an image so that its longer side has side_px at most."""
    scale = side_px / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
    return downscale(rgb, width, height)


def _encode_webp(rgb: Rgb, quality: int = _CELL_QUALITY) -> bytes:
    """Encode (H, W, 3) uint8 RGB as WebP."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", quality=quality, method=_CELL_EFFORT)
    return buffer.getvalue()

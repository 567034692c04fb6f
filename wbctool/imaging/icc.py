"""Convert the colors of an embedded ICC profile to sRGB, in which the models learned the colors of stains."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from wbctool.errors import FieldUnreadable
from wbctool.types.arrays import Pixels

_MAX_SRGB_DIFFERENCE = 3  # of 255; what two programs make of sRGB differs by less
_ROWS_AT_ONCE = 256  # Pillow's copy takes more room than our pixels


def convert_to_srgb(rgb: Pixels, profile: bytes) -> Pixels:
    """Convert an image to sRGB.

    A broken profile is refused although viewers then show the numbers as they are: the file says that its colors are
    its own, and in a count nobody would see that they are wrong.

    Args:
        rgb: (H, W, 3) uint8, in the profile's colors.
        profile: An ICC profile.

    Returns:
        (H, W, 3) uint8 in sRGB; the same array if the profile is sRGB's own.

    Raises:
        FieldUnreadable: The profile is broken, or is one of gray or of ink.
    """
    try:
        transform = _srgb_transform(profile)
    except (ImageCms.PyCMSError, OSError) as error:
        text = "the embedded color profile cannot be read; export the image in sRGB or without a profile"
        raise FieldUnreadable(text) from error
    if transform is None:
        return rgb
    converted = np.empty_like(rgb)
    for top in range(0, len(rgb), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        converted[rows] = _apply(transform, rgb[rows])
    return converted


# A slide's fields share one profile, and building its transform takes as long as reading a field.
@functools.lru_cache(maxsize=8)
def _srgb_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from a profile to sRGB, None if it changes no color noticeably.

    Relative colorimetric: a stain keeps its color, while the perceptual intent would fit the whole range to sRGB's.
    """
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    levels = np.linspace(0, 255, 16, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    change = np.abs(_apply(transform, colors).astype(int) - colors).max()
    return None if change <= _MAX_SRGB_DIFFERENCE else transform


def _apply(transform: ImageCms.ImageCmsTransform, rgb: Pixels) -> Pixels:
    """Apply a transform to (H, W, 3) uint8."""
    return np.asarray(ImageCms.applyTransform(Image.fromarray(rgb), transform))

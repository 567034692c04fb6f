"""Colours of an embedded profile as sRGB's, in which the detector and the classifier learned a stain's colours."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageCms

from wbctool.errors import FieldUnreadable

_SAME_COLOUR = 3  # of 255; what two programs make of sRGB differs by less
_ROWS_AT_ONCE = 256  # Pillow's copy takes more room than our pixels


def in_srgb(rgb: np.ndarray, profile: bytes | None) -> np.ndarray:
    """rgb: (H, W, 3) uint8 in the profile's colours. Returned in sRGB: the same array where the profile is sRGB's own.

    profile: an ICC profile as the file holds it; None where it is incomplete.

    Raises FieldUnreadable where the profile is broken, or is one of grey or of ink. Viewers then show the numbers as
    they are; but the file says that its colours are its own, and in a count nobody would see that they are wrong.
    """
    try:
        transform = _to_srgb(profile or b"")
    except (ImageCms.PyCMSError, OSError) as error:
        text = "the embedded colour profile cannot be read; export the image in sRGB or without a profile"
        raise FieldUnreadable(text) from error
    if transform is None:
        return rgb
    converted = np.empty_like(rgb)
    for top in range(0, len(rgb), _ROWS_AT_ONCE):
        rows = slice(top, top + _ROWS_AT_ONCE)
        converted[rows] = _transformed(rgb[rows], transform)
    return converted


# A slide's fields have one profile, and to look into it takes as long as to read a field.
@functools.lru_cache(maxsize=8)
def _to_srgb(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    """What makes sRGB of a profile's colours; None where it changes none of those from all over its range.

    Colorimetric: a stain keeps its colour, where the perceptual way would fit the whole range to the screen's.
    """
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, "RGB", "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    levels = np.linspace(0, 255, 16, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(64, 64, 3)
    change = np.abs(_transformed(colours, transform).astype(int) - colours).max()
    return None if change <= _SAME_COLOUR else transform


def _transformed(rgb: np.ndarray, transform: ImageCms.ImageCmsTransform) -> np.ndarray:
    return np.asarray(ImageCms.applyTransform(Image.fromarray(rgb), transform))

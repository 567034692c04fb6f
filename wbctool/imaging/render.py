"""Render a decoded image as it shows: 8 bits, over white, turned, in sRGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from wbctool.errors import FieldUnreadable
from wbctool.imaging.decoded import GRAY, DecodedImage
from wbctool.imaging.icc import convert_to_srgb
from wbctool.types.arrays import Pixels

_MIN_BRIGHT = 64  # of 255; a camera's 14 bits in 16 reach 63
_MIN_BRIGHT_SHARE = 0.1  # of the samples; a label may be bright
_MIN_OPACITY, _MIN_OPAQUE_SHARE = 230, 0.02  # of 255, of the pixels
_FIRST_SWAPPING_ORIENTATION = 5  # EXIF's orientations 5 to 8 exchange rows and columns


def swaps_sides(orientation: int) -> bool:
    """Return whether an EXIF orientation exchanges width and height."""
    return orientation >= _FIRST_SWAPPING_ORIENTATION


def render(image: DecodedImage) -> Pixels:
    """Return an image as it shows.

    Args:
        image: The image as its file stores it.

    Returns:
        (H, W, 3) uint8 sRGB.

    Raises:
        FieldUnreadable: It would show nothing or wrong colors: it is transparent, gray, or of few bits in 16, or its
            profile cannot be read.
    """
    samples = _to_8_bits(image)
    rgb = _over_white(samples, image.premultiplied) if samples.shape[-1] == 4 else samples
    if image.is_palette and (rgb == rgb[..., :1]).all():
        raise FieldUnreadable(GRAY)
    rgb = np.ascontiguousarray(_oriented(rgb, image.orientation), dtype=np.uint8)
    return rgb if image.icc_profile is None else convert_to_srgb(rgb, image.icc_profile)


def _to_8_bits(image: DecodedImage) -> Pixels:
    """Keep the upper eight bits."""
    if image.samples.dtype == np.uint8:
        return image.samples
    reduced = np.empty(image.samples.shape, np.uint8)
    np.right_shift(image.samples, image.bits - 8, out=reduced, casting="unsafe")
    bright = np.count_nonzero(reduced[..., :3] >= _MIN_BRIGHT)
    if bright < _MIN_BRIGHT_SHARE * reduced[..., :3].size:
        raise FieldUnreadable("a 16-bit image that uses only the lower bits and would appear black; export 8-bit RGB")
    return reduced


def _over_white(rgba: Pixels, premultiplied: bool) -> Pixels:
    """Lay an image with alpha, (H, W, 4) uint8, over white."""
    opacity = rgba[..., 3]
    if np.count_nonzero(opacity >= _MIN_OPACITY) < _MIN_OPAQUE_SHARE * opacity.size:
        degree = "almost completely" if opacity.any() else "completely"
        raise FieldUnreadable(f"the image is {degree} transparent; export it without transparency")
    image = Image.fromarray(np.ascontiguousarray(rgba))
    if premultiplied:
        image = Image.frombytes("RGBa", image.size, image.tobytes()).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _oriented(rgb: Pixels, orientation: int) -> Pixels:
    """Turn and mirror an image as EXIF's orientation says."""
    if swaps_sides(orientation):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in {3, 4, 7, 8}:
        rgb = rgb[::-1]
    if orientation in {2, 3, 6, 7}:
        rgb = rgb[:, ::-1]
    return rgb

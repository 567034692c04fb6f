"""What every decoder of an image file returns, and the limit that it holds to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from wbctool.errors import FieldTooLarge

# Why decoders refuse an image.
SEVERAL_IMAGES = "the file holds several images (a stack or an animation); export one image per file"
GRAY = "a gray image; stained cells are told apart by color, so export RGB"
DEEP_GRAY = "a 16-bit or floating-point gray image; export 8-bit RGB"
HIGH_DYNAMIC_RANGE = "an image of high dynamic range or wide gamut; export 8-bit sRGB"


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image as its file stores it: not yet of 8 bits, laid over white, turned, or converted to sRGB.

    Attributes:
        samples: (H, W, 3) or, with alpha, (H, W, 4) uint8 or uint16, RGB.
        bits: Bits per sample that the values use.
        premultiplied: Whether the colors are already multiplied by alpha.
        is_palette: Whether the colors come from a palette.
        orientation: 1 to 8, as in EXIF.
        icc_profile: The embedded profile; None if there is none, empty if it cannot be unpacked.
    """

    samples: NDArray[Any]
    bits: int = 8
    premultiplied: bool = False
    is_palette: bool = False
    orientation: int = 1
    icc_profile: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of its image.

    Attributes:
        width: The width in pixels, as stored.
        height: The height in pixels, as stored.
        orientation: 1 to 8, as in EXIF.
    """

    width: int
    height: int
    orientation: int


def check_size(width: int, height: int, max_megapixels: float) -> None:
    """Raise FieldTooLarge if an image of this size, in pixels, has more megapixels than allowed."""
    if width * height > max_megapixels * 1e6:
        raise FieldTooLarge(f"{width}×{height} pixels exceed the limit of {max_megapixels:g} megapixels")

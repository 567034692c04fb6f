"""Read a field: as what it shows, or refused by name.

Not by OpenCV, which fills the missing end of a truncated JPEG with gray and says nothing. JPEGs are decoded by
simplejpeg, PNGs by imagecodecs' libpng, TIFFs by tifffile: these three refuse a damaged file. OpenJPEG decodes JPEG
2000; Pillow reads headers, BMP, WebP and AVIF, and HEIC with pillow-heif. A file's bytes decide, not its ending.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.decoded import DEEP_GRAY, GRAY, SEVERAL_IMAGES, DecodedImage, ImageHeader, check_size
from wbctool.imaging.formats import READ_FORMATS, READ_SIGNATURE, UnreadKind, can_read_heic, name_content
from wbctool.imaging.integrity import MIN_HOLE_BYTES, check_end_copied, check_no_block_hole, incomplete_error
from wbctool.imaging.iso_media import check_media_complete, check_standard_range, is_avif, is_heic
from wbctool.imaging.jpeg import decode_jpeg, descriptive_segments
from wbctool.imaging.jpeg2000 import decode_jpeg2000, is_jpeg2000, read_jpeg2000_header
from wbctool.imaging.png import descriptive_chunks, pixel_chunks, to_display_gamma
from wbctool.imaging.render import render, swaps_sides
from wbctool.imaging.tiff import decode_tiff, is_tiff, read_tiff_header
from wbctool.imaging.webp import check_webp_complete, is_webp, read_webp_size
from wbctool.types.arrays import Pixels
from wbctool.types.cells import Field

MAX_MEGAPIXELS = 300.0
_MAX_BYTES_PER_PIXEL = 8  # four channels of 16 bits, uncompressed
_BMP_LAYOUT = ((10, 4), (28, 2), (30, 4))  # offset of the pixels, bits of each, compression: where they are
_BMP_UNCOMPRESSED = frozenset({0, 3})
_PADDED_JPEG = re.compile(rb"\0{0,64}\xff\xd8\0{0,64}(?=\xff)")
_PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "AVIF")
_METADATA_HOLE_BYTES = 4096
_COLOR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})

Image.MAX_IMAGE_PIXELS = None  # max_megapixels replaces Pillow's limit, which warns at 89 and fails at 179 megapixels
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**30  # bytes of a color profile or orientation


def read_field(path: Path, name: str | None = None, max_megapixels: float = MAX_MEGAPIXELS) -> Field:
    """Read one image.

    The EXIF orientation is applied, transparency is laid over white, and the colors of another embedded profile become
    sRGB's.

    Args:
        path: An image file of any kind that is read.
        name: The field's name in results; the file's name if None.
        max_megapixels: Larger images are refused.

    Returns:
        The field, (H, W, 3) uint8 RGB.

    Raises:
        FieldTooLarge: The image is above the limit.
        FieldUnreadable: The file would give missing pixels or wrong colors: it is truncated, damaged, gray, CMYK, has
            an unreadable profile or several frames, or is no image.
        MemoryError: Memory is short.
    """
    data = read_image_bytes(path, max_megapixels)
    return Field(name=path.name if name is None else name, rgb=decode_rgb(data, max_megapixels))


def read_image_bytes(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> bytes:
    """Read a file's bytes, all of one moment.

    Args:
        path: The file.
        max_megapixels: Files larger than an uncompressed image of that size are refused unread.

    Returns:
        The file's content.

    Raises:
        FieldTooLarge: No image within the limit is that large.
        FieldUnreadable: The file cannot be read, or changed meanwhile, as one does that is still being copied.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > max_megapixels * 1e6 * _MAX_BYTES_PER_PIXEL + 1e6:
                raise FieldTooLarge(f"the file is larger than an image of {max_megapixels:g} megapixels can be")
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise FieldUnreadable(f"cannot be read: {error.strerror or error}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise FieldUnreadable("changed while it was being read; is it still being copied? (see --settle)")
    return data


def decode_rgb(data: bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """Decode an image file's bytes.

    Args:
        data: The content of an image file of any kind that is read.
        max_megapixels: Larger images are refused before they are decoded.

    Returns:
        (H, W, 3) uint8 RGB, as :func:`read_field`.

    Raises:
        FieldTooLarge, FieldUnreadable, MemoryError: As :func:`read_field`.
    """
    _check_not_empty(data)
    try:
        return render(_decode(_without_leading_padding(data), max_megapixels))
    except (FieldUnreadable, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise _describe_decode_error(error, data) from error


def header_megapixels(data: bytes) -> float:
    """Return the size that an image promises by its header, in megapixels; 0 if it is none."""
    try:
        header = _read_header(data)
    except Exception:  # as above; whoever decodes it will say why
        return 0.0
    return header.width * header.height / 1e6


def oriented_size(path: Path) -> tuple[int, int]:
    """Return the size of an image as :func:`read_field` turns it, from its header.

    Args:
        path: An image file.

    Returns:
        (width, height) in pixels.

    Raises:
        FieldUnreadable: The header cannot be read.
    """
    data = read_image_bytes(path, math.inf)
    _check_not_empty(data)
    try:
        header = _read_header(data)
    except FieldUnreadable:
        raise
    except Exception as error:  # as above
        raise _describe_decode_error(error, data) from error
    is_turned = swaps_sides(header.orientation)
    return (header.height, header.width) if is_turned else (header.width, header.height)


def _check_not_empty(data: bytes) -> None:
    """Raise FieldUnreadable if a file is empty."""
    if not data:
        raise FieldUnreadable("the file is empty")


def _without_leading_padding(data: bytes) -> bytes:
    """Return a JPEG without the zeros before and behind its first marker, by which Pillow knows it."""
    padded = None if data.startswith(b"\xff\xd8\xff") else _PADDED_JPEG.match(data)
    return data if padded is None else b"\xff\xd8" + data[padded.end() :]


def _read_header(data: bytes) -> ImageHeader:
    """Read an image's size and orientation; raises as the libraries do."""
    data = _without_leading_padding(data)
    if is_tiff(data):
        return read_tiff_header(data)
    if is_jpeg2000(data):
        return read_jpeg2000_header(data)
    with _open(data) as image:
        return ImageHeader(*image.size, _orientation(image, data))


@contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    """Open an image in memory of which Pillow reads the header."""
    formats = (_register_heif(),) if is_heic(data) else _PILLOW_FORMATS
    if data.startswith(b"\x89PNG"):
        data = descriptive_chunks(data)
    elif data.startswith(b"\xff\xd8\xff"):
        data = descriptive_segments(data)
    with Image.open(io.BytesIO(data), formats=formats) as image:
        yield image


def _register_heif() -> str:
    """Return Pillow's name of HEIC, once pillow-heif has taught Pillow to read it."""
    if not can_read_heic():
        raise FieldUnreadable(f"a HEIC image; {UnreadKind.HEIC.advise(1)}")
    import pillow_heif  # late: few have HEIC

    pillow_heif.register_heif_opener()
    return "HEIF"


def _decode(data: bytes, max_megapixels: float) -> DecodedImage:
    """Decode an image of any kind."""
    if is_tiff(data):
        return decode_tiff(data, max_megapixels)
    if is_jpeg2000(data):
        return decode_jpeg2000(data, max_megapixels)
    if is_webp(data):
        check_size(*read_webp_size(data), max_megapixels)
        check_webp_complete(data)
    with _open(data) as image:
        _check_supported(image, max_megapixels)
        samples: NDArray[Any]
        if image.format == "PNG":
            samples = to_display_gamma(data, imagecodecs.png_decode(pixel_chunks(data)))
        elif image.format == "BMP":
            samples = _decode_bmp(image, data)
        elif image.format == "JPEG":
            samples = decode_jpeg(data)
        else:
            if is_avif(data) or is_heic(data):
                check_standard_range(data)
                check_media_complete(data, _METADATA_HOLE_BYTES if image.info.get("exif") else MIN_HOLE_BYTES)
            samples = np.asarray(image)
        has_profile = "icc_profile" in image.info
        return DecodedImage(
            samples=samples,
            bits=8 * samples.dtype.itemsize,
            is_palette=image.mode == "P",
            orientation=_orientation(image, data),
            icc_profile=(image.info["icc_profile"] or b"") if has_profile else None,
        )


def _decode_bmp(image: Image.Image, data: bytes) -> Pixels:
    """Decode a BMP. Its alpha is none: Windows shows it opaque, and its programs leave there what was in memory."""
    offset, bits, compression = (int.from_bytes(data[at : at + size], "little") for at, size in _BMP_LAYOUT)
    if compression in _BMP_UNCOMPRESSED:
        row_bytes = -(-image.width * bits // 32) * 4
        end = offset + row_bytes * image.height
        check_end_copied(data, end)
        check_no_block_hole(data, offset, end, row_bytes)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _check_supported(image: Image.Image, max_megapixels: float) -> None:
    """Refuse by name what would be too large or show wrong colors."""
    check_size(*image.size, max_megapixels)
    if getattr(image, "n_frames", 1) > 1:
        raise FieldUnreadable(SEVERAL_IMAGES)
    if image.mode.startswith("I") or image.mode == "F":
        raise FieldUnreadable(DEEP_GRAY)
    if image.mode in {"1", "L", "LA", "La"}:
        raise FieldUnreadable(GRAY)
    if image.mode not in _COLOR_MODES:
        raise FieldUnreadable(f"the color mode {image.mode} cannot be rendered reliably; export 8-bit RGB")


def _orientation(image: Image.Image, data: bytes) -> int:
    """Return EXIF's orientation, 1 if its metadata are missing or broken."""
    if image.format == "PNG" and not any(word in data for word in (b"eXIf", b"Raw profile type exif", b"adobe.xmp")):
        return 1  # Pillow would decode the image to look for metadata behind the pixels
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata touch no pixel
        return 1
    return value if value in range(1, 9) else 1


def _describe_decode_error(error: Exception, data: bytes) -> FieldUnreadable:
    """Return the error in words for the laboratory."""
    try:
        check_end_copied(data, len(data))
    except FieldUnreadable as known:
        return known
    text = " ".join(str(error).split()) or type(error).__name__  # libheif's end with an empty line
    if text.startswith("Unsupported BMP"):
        return FieldUnreadable(f"an unusual kind of BMP ({text.removeprefix('Unsupported BMP ')}); export PNG")
    if "cannot identify image file" not in text:
        return incomplete_error(text)
    if READ_SIGNATURE.match(data) or data[4:8] == b"ftyp":
        return FieldUnreadable(
            "the image is incomplete or damaged, or of an unusual kind; if it opens elsewhere, export 8-bit RGB"
        )
    kind = name_content(data)
    *names, last_name = (read.name for read in READ_FORMATS)
    read_kinds = f"{', '.join(names)} or {last_name}"
    return FieldUnreadable(f"{f'a {kind} file, ' if kind else ''}not a {read_kinds} image; export it as one of those")

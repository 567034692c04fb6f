"""Read JPEG 2000 with OpenJPEG, or refuse by name what would give wrong colors or missing pixels.

OpenJPEG leaves tiles black that a file lacks, and fills holes of zeros with blurred blocks, and says nothing of either.

References:
    ISO/IEC 15444-1: annex A, the codestream; annex I, the JP2 file format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from PIL import ExifTags, Image

from wbctool.errors import FieldUnreadable
from wbctool.imaging.decoded import GRAY, SEVERAL_IMAGES, DecodedImage, ImageHeader, check_size
from wbctool.imaging.integrity import MIN_HOLE_BYTES, check_no_hole, incomplete_error
from wbctool.imaging.iso_media import MediaBox, iter_boxes

_CODESTREAM = b"\xff\x4f\xff\x51"
_FILE = b"\0\0\0\x0cjP  \r\n\x87\n"
_COD, _SOT = 0xFF52, 0xFF90
_SRGB, _GRAYSCALE, _SYCC = 16, 17, 18
_COLOR_SPACES = {0: "black and white", 12: "CMYK", 14: "CIELAB", 15: "black and white"}
_ENUMERATED = 1
_OPACITY, _PREMULTIPLIED_OPACITY = 1, 2
_EXIF_UUID = b"JpgTiffExif->JP2"
_MAX_BITS = 16
_PRECINCT_HOLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class _Size:
    """The size segment of a codestream.

    Attributes:
        width: The image's width in pixels.
        height: The image's height in pixels.
        tiles: The number of tiles.
        bits: The bits of each component.
        signed: Whether a component has signed values.
        subsampled: Whether a component is smaller than the image.
    """

    width: int
    height: int
    tiles: int
    bits: tuple[int, ...]
    signed: bool
    subsampled: bool


@dataclass(slots=True)
class _Description:
    """What the boxes around a codestream say of it.

    Attributes:
        color_space: The number of its color space; None if none is named.
        icc_profile: The embedded profile; None if there is none.
        has_palette: Whether its colors come from a palette.
        channels: The number, type and association of each channel.
        orientation: 1 to 8, as in EXIF.
    """

    color_space: int | None = None
    icc_profile: bytes | None = None
    has_palette: bool = False
    channels: tuple[tuple[int, int, int], ...] = ()
    orientation: int = 1


def is_jpeg2000(data: bytes) -> bool:
    """Return whether bytes begin as a JPEG 2000 file or codestream does."""
    return data.startswith((_CODESTREAM, _FILE))


def read_jpeg2000_header(data: bytes) -> ImageHeader:
    """Read an image's size and orientation without decoding it.

    Raises:
        FieldUnreadable: The header is cut or broken.
    """
    size = _read_size(data, _codestream(data))
    return ImageHeader(size.width, size.height, _describe(data).orientation)


def decode_jpeg2000(data: bytes, max_megapixels: float) -> DecodedImage:
    """Decode the one image of a JPEG 2000 file.

    Args:
        data: The file's bytes.
        max_megapixels: Larger images are refused before they are decoded.

    Returns:
        The image as stored.

    Raises:
        FieldTooLarge: The image has more pixels than allowed.
        FieldUnreadable: The file holds several images, lacks pixels, or has colors that are not read.
        Exception: Whatever a broken file makes OpenJPEG raise.
    """
    box = _codestream(data)
    size, described = _read_size(data, box), _describe(data)
    check_size(size.width, size.height, max_megapixels)
    _check_colors(size, described)
    _check_tiles(data, box, size)
    samples: np.ndarray[Any, Any] = imagecodecs.jpeg2k_decode(data)
    if samples.shape[:2] != (size.height, size.width) or samples.ndim != 3 or samples.shape[2] not in {3, 4}:
        raise FieldUnreadable("an unusual kind of JPEG 2000; export 8-bit RGB")
    opacity = next((kind for _, kind, _ in described.channels if kind != 0), None)
    return DecodedImage(
        samples=samples,
        bits=8 if samples.dtype == np.uint8 else size.bits[0],
        premultiplied=opacity == _PREMULTIPLIED_OPACITY,
        is_palette=described.has_palette,
        orientation=described.orientation,
        icc_profile=described.icc_profile,
    )


def _codestream(data: bytes) -> MediaBox:
    """Return where the codestream lies."""
    if data.startswith(_CODESTREAM):
        return MediaBox(b"jp2c", 0, len(data))
    boxes = [box for box in iter_boxes(data) if box.kind == b"jp2c"]
    if len(boxes) > 1:
        raise FieldUnreadable(SEVERAL_IMAGES)
    if not boxes:
        raise incomplete_error("it holds no image")
    return boxes[0]


def _read_size(data: bytes, box: MediaBox) -> _Size:
    """Read the size segment, with which a codestream begins."""
    try:
        width, height, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
            ">8IH", data, box.start + 8
        )
        described = struct.unpack_from(f">{3 * components}B", data, box.start + 42)
    except struct.error as error:
        raise incomplete_error("its header is cut") from error
    if not (width > left and height > top and tile_width and tile_height and components):
        raise incomplete_error("its size is wrong")
    tiles = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    return _Size(
        width=width - left,
        height=height - top,
        tiles=tiles,
        bits=tuple((depth & 0x7F) + 1 for depth in described[::3]),
        signed=any(depth & 0x80 for depth in described[::3]),
        subsampled=any(step != 1 for i, step in enumerate(described) if i % 3),
    )


def _describe(data: bytes) -> _Description:
    """Read what the boxes say; a codestream alone has none."""
    described = _Description()
    if data.startswith(_CODESTREAM):
        return described
    for box in iter_boxes(data):
        if box.kind == b"jp2h":
            for inner in iter_boxes(data, box.start, box.end):
                _describe_header_box(described, inner.kind, data[inner.start : inner.end])
        elif box.kind == b"uuid" and data[box.start : box.start + 16] == _EXIF_UUID:
            described.orientation = _orientation(data[box.start + 16 : box.end])
    return described


def _describe_header_box(described: _Description, kind: bytes, content: bytes) -> None:
    """Note what one box of the header says; only the first description of the colors counts."""
    is_first = described.color_space is None and described.icc_profile is None
    if kind == b"pclr":
        described.has_palette = True
    elif kind == b"cdef" and len(content) >= 2:
        (count,) = struct.unpack_from(">H", content)
        values = struct.unpack_from(f">{3 * count}H", content, 2)
        described.channels = tuple(zip(values[::3], values[1::3], values[2::3], strict=True))
    elif kind == b"colr" and is_first and len(content) > 3:
        if content[0] == _ENUMERATED:
            (described.color_space,) = struct.unpack_from(">I", content, 3)
        else:
            described.icc_profile = content[3:]


def _orientation(exif: bytes) -> int:
    """Return EXIF's orientation, 1 if the metadata are broken."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(ExifTags.Base.Orientation, 1)
    except Exception:  # metadata touch no pixel
        return 1
    return value if value in range(1, 9) else 1


def _check_colors(size: _Size, described: _Description) -> None:
    """Refuse by name what would show wrong colors."""
    has_opacity = any(kind in {_OPACITY, _PREMULTIPLIED_OPACITY} for _, kind, _ in described.channels)
    n_colors = len(size.bits) - has_opacity
    if described.color_space in _COLOR_SPACES:
        raise FieldUnreadable(f"a {_COLOR_SPACES[described.color_space]} image; export 8-bit RGB")
    if described.color_space == _GRAYSCALE or (n_colors < 3 and not described.has_palette):
        raise FieldUnreadable(GRAY)
    if described.color_space not in {None, _SRGB, _SYCC}:
        raise FieldUnreadable(f"the color space {described.color_space} is not read; export 8-bit RGB")
    if n_colors > 3 or size.signed or len(set(size.bits)) > 1 or size.bits[0] > _MAX_BITS:
        raise FieldUnreadable(f"its {len(size.bits)} channels cannot be rendered reliably; export 8-bit RGB")
    if size.subsampled and described.color_space != _SYCC:
        raise FieldUnreadable("channels of different sizes cannot be rendered reliably; export 8-bit RGB")


def _check_tiles(data: bytes, box: MediaBox, size: _Size) -> None:
    """Raise FieldUnreadable unless every tile is there, and without a hole."""
    position, largest_hole = box.start + 2, MIN_HOLE_BYTES
    for marker, start, end in _segments(data, box):
        if marker == _COD:
            style, layers, levels = struct.unpack_from(">BxHxB", data, start + 2)
            # Each precinct without data takes a zero byte; of how many there are only the default is simple.
            blanks = layers * (levels + 1) * len(size.bits)
            largest_hole = max(MIN_HOLE_BYTES + blanks, _PRECINCT_HOLE_BYTES if style & 1 else 0)
        position = end
    tiles: set[int] = set()
    while data[position : position + 2] == struct.pack(">H", _SOT):
        tile, length = struct.unpack_from(">HI", data, position + 4)
        end = position + length if length else box.end
        if end > box.end:
            raise incomplete_error("a tile is cut")
        check_no_hole(data[position:end], largest_hole)
        tiles.add(tile)
        position = max(end, position + 12)
    if len(tiles) < size.tiles:
        raise incomplete_error(f"{size.tiles - len(tiles)} of its {size.tiles} tiles are missing")


def _segments(data: bytes, box: MediaBox) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start, and end of each segment of the main header."""
    position = box.start + 2
    while position + 4 <= box.end:
        marker, length = struct.unpack_from(">HH", data, position)
        if marker == _SOT:
            return
        yield marker, position + 2, position + 2 + length
        position += 2 + length

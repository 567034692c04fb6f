"""Tell whether a file holds every pixel that its header promises, apart from complaints that touch no pixel.

libjpeg fills damaged parts with gray and mentions it in a warning, beside warnings that mean nothing.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wbctool.errors import FieldUnreadable

Pixels = NDArray[np.uint8]

_END_OF_JPEG = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_MAX_REPAIRS = 16  # of a progressive JPEG, of which several scans may end in zeros
_SEGMENT = re.compile(rb"\xff+([\x01-\xfe])")
_NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_PNG_DESCRIPTIVE_CHUNKS = frozenset({b"acTL", b"fcTL", b"eXIf", b"iCCP"})
_PNG_ORIENTATION_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # ImageMagick's and Adobe's


class _PngChunk(NamedTuple):
    """kind: four letters. start, end: its bytes in the file."""

    kind: bytes
    start: int
    end: int

    @property
    def is_of_pixels(self) -> bool:
        """Whether the chunk is critical, which the case of its first letter tells, or the transparency."""
        return self.kind[:1].isupper() or self.kind == b"tRNS"


def incomplete(reason: str) -> FieldUnreadable:
    """Return the error of an image that lacks pixels."""
    return FieldUnreadable(f"the image is incomplete or damaged ({reason}); copy or export it again")


def check_no_hole(coded: bytes, length: int) -> None:
    """Raise FieldUnreadable if coded pixels have a hole: zeros, as a copy leaves them that was interrupted.

    For formats without a check sum, whose decoders make something of anything.

    Args:
        coded: The bytes that a decoder would make pixels of.
        length: How many zeros in a row they hold nowhere.
    """
    if bytes(length) in coded:
        raise incomplete("a part of it is zeros")


def decode_jpeg(jpeg: bytes) -> Pixels:
    """Decode a color JPEG of which no pixel may be missing.

    Stray bytes between two header segments and zeros before a marker, as some USB cameras write them, are left out if
    libjpeg complains of them.

    Args:
        jpeg: The file's bytes.

    Returns:
        (H, W, 3) uint8 RGB, as stored: not turned.

    Raises:
        ValueError: Pixels are missing or damaged; the message is libjpeg's.
    """
    try:
        return _decode_strictly(jpeg)
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
        for repaired in itertools.islice(_without_padding(jpeg), _MAX_REPAIRS):
            try:
                return _decode_strictly(repaired)
            except ValueError:
                continue
        raise


def check_jpeg_complete(strip: bytes, tables: bytes, width: int, height: int) -> None:
    """Raise FieldUnreadable if a TIFF's JPEG strip or tile lacks pixels.

    Args:
        strip: The strip's bytes.
        tables: The TIFF's JPEGTables, empty if there are none.
        width: Width of the strip in pixels.
        height: Rows that the strip must hold at least.
    """
    jpeg = tables.rpartition(_END_OF_JPEG)[0] + strip[2:] if tables else strip
    try:
        found_height, found_width, colors, _ = simplejpeg.decode_jpeg_header(jpeg, strict=True)
        colors = "CMYK" if colors in {"CMYK", "YCCK"} else "GRAY"
        # All of it is read, but an eighth of it drawn, which halves the cost.
        simplejpeg.decode_jpeg(jpeg, colors, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        raise incomplete(str(error)) from error
    if found_width != width or found_height < height:
        raise incomplete(f"a strip or tile of {width}×{height} pixels holds {found_width}×{found_height}")


def pixel_chunks(png: bytes) -> bytes:
    """Return a PNG of those chunks alone that make its pixels.

    libpng refuses pixels that are missing, but complains on the terminal of texts, broken metadata, and damaged data.

    Args:
        png: The file's bytes.

    Returns:
        Its critical chunks and the transparency.

    Raises:
        FieldUnreadable: One of those chunks is cut or has a wrong check sum.
    """
    parts = [_PNG_SIGNATURE]
    for chunk in _png_chunks(png):
        if chunk.kind == b"IEND":  # holds nothing, so its check sum guards nothing
            parts.append(_PNG_END)
        elif chunk.is_of_pixels:
            content = png[chunk.start : chunk.end]
            if struct.pack(">I", zlib.crc32(content[4:-4])) != content[-4:]:
                raise incomplete("its check sum is wrong")
            parts.append(content)
    return b"".join(parts)


def descriptive_chunks(png: bytes) -> bytes:
    """Return a PNG without the chunks that say nothing of its size, colors, orientation, and number of frames.

    Pillow refuses whole images for those others, such as a long text, and for a wrong check sum of any chunk.
    """
    parts = [_PNG_SIGNATURE]
    for chunk in _png_chunks(png):
        content = png[chunk.start : chunk.end]
        if chunk.kind == b"IEND":
            parts.append(_PNG_END)
        elif chunk.is_of_pixels:
            parts.append(content)
        elif chunk.kind in _PNG_DESCRIPTIVE_CHUNKS or content[8:].startswith(_PNG_ORIENTATION_TEXTS):
            parts.append(content[:-4] + struct.pack(">I", zlib.crc32(content[4:-4])))
    return b"".join(parts)


def _decode_strictly(jpeg: bytes) -> Pixels:
    rgb: Pixels = simplejpeg.decode_jpeg(jpeg, "RGB", strict=True)
    return rgb


def _without_padding(jpeg: bytes) -> Iterator[bytes]:
    """Yield a JPEG without bytes between its segments, and with no zeros, or one, at the end of each scan.

    A scan's last byte of data is hardly ever zero. If more zeros than that are needed to fill the image they are no
    padding but a hole.
    """
    parts: list[tuple[bytes, ...]] = [(jpeg[:2],)]
    position = 2
    while (marker := _SEGMENT.search(jpeg, position)) and marker[1] != _END_OF_JPEG[1:]:
        position = marker.end() + int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
        parts.append((jpeg[marker.end() - 2 : position],))
        if marker[1][0] == _START_OF_SCAN:
            following = _NEXT_MARKER.search(jpeg, position)
            end = following.start() if following else len(jpeg)
            scan = jpeg[position:end]
            data = scan.rstrip(b"\0")
            data = scan[: len(data) + data.endswith(b"\xff")]  # the zero behind 255 belongs to it
            parts.append((data,) if data == scan else (data, data + b"\0"))
            position = end
    if marker:
        parts.append((_END_OF_JPEG,))
    return map(b"".join, itertools.product(*parts))


def _png_chunks(png: bytes) -> Iterator[_PngChunk]:
    """Yield a PNG's chunks; the last one may be cut."""
    start = len(_PNG_SIGNATURE)
    while start < len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        end = start + 12 + length  # length, kind, and check sum are four bytes each
        yield _PngChunk(png[start + 4 : start + 8], start, end)
        start = end

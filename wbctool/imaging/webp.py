"""The chunks of a WebP image, to tell what it would take to decode it and whether all of it is there.

References:
    RFC 9649, WebP Image Format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wbctool.imaging.integrity import MIN_HOLE_BYTES, check_no_hole, incomplete_error

_SIDE_MASK = 0x3FFF  # a side has 14 bits
_PIXEL_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
_HEADER_BYTES = 12  # "RIFF", the length of the rest, "WEBP"


class _Chunk(NamedTuple):
    """One chunk of a WebP file.

    Attributes:
        kind: Its four letters.
        start: Where its content begins in the file.
        end: Where its content ends, which is beyond the end of a file that is cut.
    """

    kind: bytes
    start: int
    end: int


def is_webp(data: bytes) -> bool:
    """Return whether bytes begin as a WebP image does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read_webp_size(data: bytes) -> tuple[int, int]:
    """Return the size of a WebP image, for which libwebp takes memory before it looks at the image.

    Returns:
        (width, height) in pixels; (0, 0) if it cannot be read.
    """
    kind, start, _ = next(_iter_chunks(data), _Chunk(b"", 0, 0))
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (start + 4, start + 7))
    elif kind == b"VP8L":
        sides = int.from_bytes(data[start + 1 : start + 5], "little")
        width, height = (sides & _SIDE_MASK) + 1, (sides >> 14 & _SIDE_MASK) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & _SIDE_MASK for at in (start + 6, start + 8))
    else:
        width, height = 0, 0
    return width, height


def check_webp_complete(data: bytes) -> None:
    """Raise FieldUnreadable if a WebP image is cut, or holds a hole of zeros.

    Args:
        data: The file's bytes; what follows the image in it does not matter.
    """
    if 8 + int.from_bytes(data[4:8], "little") > len(data) + 1:  # some programs leave out the last padding byte
        raise incomplete_error("its end is missing")
    for kind, start, end in _iter_chunks(data):
        if end > len(data):
            raise incomplete_error("its end is missing")
        if kind in _PIXEL_CHUNKS:
            check_no_hole(data[start:end], MIN_HOLE_BYTES)


def _iter_chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of the image, as far as the file goes."""
    start, stop = _HEADER_BYTES, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while start + 8 <= stop:
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        yield _Chunk(data[start : start + 4], start + 8, start + 8 + length)
        start += 8 + length + length % 2

"""The chunks of a WebP image, to tell what it would take to decode it and whether all of it is there.

References:
    RFC 9649, WebP Image Format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from wbctool.imaging.integrity import check_no_hole, incomplete

_MIN_HOLE = 512
_SIDE = 0x3FFF  # 14 bits
_CODED = frozenset({b"VP8 ", b"VP8L", b"ALPH"})


class _Chunk(NamedTuple):
    """kind: four letters. start, end: its content in the file, which may end before it."""

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
    kind, start, _ = next(_chunks(data), _Chunk(b"", 0, 0))
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (start + 4, start + 7))
    elif kind == b"VP8L":
        sides = int.from_bytes(data[start + 1 : start + 5], "little")
        width, height = (sides & _SIDE) + 1, (sides >> 14 & _SIDE) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(data[at : at + 2], "little") & _SIDE for at in (start + 6, start + 8))
    else:
        width, height = 0, 0
    return width, height


def check_webp_complete(data: bytes) -> None:
    """Raise FieldUnreadable if a WebP image is cut, or holds a hole of zeros.

    Args:
        data: The file's bytes; what follows the image in it does not matter.
    """
    if 8 + int.from_bytes(data[4:8], "little") > len(data) + 1:  # some programs leave out the last padding byte
        raise incomplete("its end is missing")
    for kind, start, end in _chunks(data):
        if end > len(data):
            raise incomplete("its end is missing")
        if kind in _CODED:
            check_no_hole(data[start:end], _MIN_HOLE)


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks of the image."""
    start, stop = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while start + 8 <= stop:
        length = int.from_bytes(data[start + 4 : start + 8], "little")
        yield _Chunk(data[start : start + 4], start + 8, start + 8 + length)
        start += 8 + length + length % 2

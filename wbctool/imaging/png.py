"""The chunks of a PNG image: those of the pixels, those that describe them, and what those say of the colors.

References:
    W3C, Portable Network Graphics (PNG) Specification, third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import FieldUnreadable
from wbctool.imaging.decoded import HIGH_DYNAMIC_RANGE, SEVERAL_IMAGES
from wbctool.imaging.integrity import incomplete_error
from wbctool.imaging.iso_media import is_standard_range

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_DESCRIPTIVE_CHUNKS = frozenset({b"eXIf", b"iCCP"})
_ORIENTATION_TEXTS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # ImageMagick's and Adobe's
_ANIMATION = frozenset({b"acTL", b"fdAT"})  # announces further pictures, holds one
_PALETTE = 3  # the color type; in others a palette is a hint for old displays, and libpng prints what it thinks of it
_KNOWN_CRITICAL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_OWN_COLORS = frozenset({b"iCCP", b"sRGB"})  # say more of the colors than the gamma does
_GAMMA_UNIT = 100_000
_DISPLAY_GAMMA = 2.2
_MIN_GAMMA_CHANGE = 0.05  # of the exponent, as libpng


class _Chunk(NamedTuple):
    """One chunk of a PNG file.

    Attributes:
        kind: Its four letters.
        start: Where its length begins in the file.
        end: Where its check sum ends, which is beyond the end of a file that is cut.
    """

    kind: bytes
    start: int
    end: int

    @property
    def is_of_pixels(self) -> bool:
        """Whether the chunk is critical, which the case of its first letter tells, or the transparency."""
        return self.kind[:1].isupper() or self.kind == b"tRNS"


def pixel_chunks(png: bytes) -> bytes:
    """Return a PNG of those chunks alone that make its pixels.

    libpng refuses pixels that are missing, but complains on the terminal of texts, broken metadata, and damaged data.

    Args:
        png: The file's bytes.

    Returns:
        Its critical chunks and the transparency.

    Raises:
        FieldUnreadable: One of those chunks is cut, has a wrong check sum, or is of a kind that is not known, or the
            file is an animation.
    """
    parts = [_SIGNATURE]
    kinds = set()
    has_palette = png[25:26] == bytes([_PALETTE])
    for chunk in _chunks(png):
        kinds.add(chunk.kind)
        if chunk.kind == b"IEND":  # holds nothing, so its check sum guards nothing
            parts.append(_END)
        elif chunk.is_of_pixels and (chunk.kind != b"PLTE" or has_palette):
            content = png[chunk.start : chunk.end]
            if struct.pack(">I", zlib.crc32(content[4:-4])) != content[-4:]:
                raise incomplete_error("its check sum is wrong")
            if chunk.kind not in _KNOWN_CRITICAL_CHUNKS and chunk.kind != b"tRNS":
                kind = chunk.kind.decode("ascii", "backslashreplace")
                raise FieldUnreadable(f"an unusual kind of PNG, with a chunk {kind}; export a common one")
            parts.append(content)
    if kinds >= _ANIMATION:
        raise FieldUnreadable(SEVERAL_IMAGES)
    return b"".join(parts)


def descriptive_chunks(png: bytes) -> bytes:
    """Return a PNG without the chunks that say nothing of its size, colors, and orientation.

    Pillow refuses whole images for those others, such as a long text, and for a wrong check sum of any chunk.
    """
    parts = [_SIGNATURE]
    for chunk in _chunks(png):
        content = png[chunk.start : chunk.end]
        if chunk.kind == b"IEND":
            parts.append(_END)
        elif chunk.is_of_pixels:
            parts.append(content)
        elif chunk.kind in _DESCRIPTIVE_CHUNKS or content[8:].startswith(_ORIENTATION_TEXTS):
            parts.append(content[:-4] + struct.pack(">I", zlib.crc32(content[4:-4])))
    return b"".join(parts)


def to_display_gamma(png: bytes, samples: NDArray[Any]) -> NDArray[Any]:
    """Return an image's samples as a display of sRGB shows them, if the file says that they are not for one.

    Args:
        png: The file's bytes.
        samples: (H, W, 3) or, with alpha, (H, W, 4) uint8 or uint16, as stored.

    Returns:
        The same array if nothing is to be done.

    Raises:
        FieldUnreadable: The image is of high dynamic range, or of a wide gamut without a profile.
    """
    chunks = {chunk.kind: png[chunk.start + 8 : chunk.end - 4] for chunk in _chunks(png) if not chunk.is_of_pixels}
    code_points = chunks.get(b"cICP", b"")
    if len(code_points) == 4:
        primaries, transfer, _, is_full_range = code_points
        if not (is_standard_range(primaries, transfer) and is_full_range):
            raise FieldUnreadable(HIGH_DYNAMIC_RANGE)
        return samples
    stored = chunks.get(b"gAMA", b"")
    gamma = int.from_bytes(stored, "big") / _GAMMA_UNIT if len(stored) == 4 else 0.0
    exponent = 1 / (gamma * _DISPLAY_GAMMA) if gamma else 1.0
    if abs(exponent - 1) < _MIN_GAMMA_CHANGE or _OWN_COLORS & chunks.keys():
        return samples
    largest = np.iinfo(samples.dtype).max
    table = np.round((np.arange(largest + 1) / largest) ** exponent * largest).astype(samples.dtype)
    return np.concatenate([table[samples[..., :3]], samples[..., 3:]], axis=-1)


def _chunks(png: bytes) -> Iterator[_Chunk]:
    """Yield a PNG's chunks; the last one may be cut."""
    start = len(_SIGNATURE)
    while start < len(png):
        length = int.from_bytes(png[start : start + 4], "big")
        end = start + 12 + length  # length, kind, and check sum are four bytes each
        yield _Chunk(png[start + 4 : start + 8], start, end)
        start = end

"""The boxes of ISO media files: JPEG 2000, AVIF, and HEIC.

References:
    ISO/IEC 14496-12, ISO base media file format; ISO/IEC 15444-1, annex I, the JP2 file format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from wbctool.errors import FieldUnreadable
from wbctool.imaging.decoded import HIGH_DYNAMIC_RANGE
from wbctool.imaging.integrity import check_no_hole

_HEVC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AV1_BRANDS = frozenset({b"avif", b"avis"})
_SHARED_BRANDS = frozenset({b"mif1", b"mif2", b"msf1"})
_UNSPECIFIED = 2
_SDR_PRIMARIES = frozenset({1, _UNSPECIFIED, 5, 6})  # BT.709's, and BT.601's, which differ little
_SDR_TRANSFERS = frozenset({1, _UNSPECIFIED, 4, 5, 6, 13, 14, 15})  # neither linear, PQ, nor HLG


class MediaBox(NamedTuple):
    """One box of a file.

    Attributes:
        kind: Its four letters.
        start: Where its content begins in the file.
        end: Where its content ends.
    """

    kind: bytes
    start: int
    end: int


def iter_boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[MediaBox]:
    """Yield the boxes between two positions; the last one ends there at the latest.

    Args:
        data: The file's bytes.
        start: Where the first box begins.
        end: Where they end; None for the end of the file.
    """
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if length == 1 and start + 16 <= end:
            (length,), header = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if length == 0 else start + length
        if stop < start + header:
            return
        yield MediaBox(kind, start + header, min(stop, end))
        start = stop


def is_avif(data: bytes) -> bool:
    """Return whether bytes begin as an AVIF image or sequence does."""
    return bool(_brands(data) & _AV1_BRANDS)


def is_heic(data: bytes) -> bool:
    """Return whether bytes begin as an image or sequence of High Efficiency Video Coding does."""
    brands = _brands(data)
    return not brands & _AV1_BRANDS and bool(brands & (_HEVC_BRANDS | _SHARED_BRANDS))


def check_media_complete(data: bytes, hole: int) -> None:
    """Raise FieldUnreadable if the media data of an AVIF or HEIC image hold a hole of zeros.

    Args:
        data: The file's bytes; what follows the image in it does not matter.
        hole: How many zeros in a row they hold nowhere.
    """
    for box in iter_boxes(data):
        if box.kind == b"mdat":
            check_no_hole(data[box.start : box.end], hole)


def check_standard_range(data: bytes) -> None:
    """Refuse an AVIF or HEIC image whose numbers would show wrong colors if they were taken for sRGB.

    Raises:
        FieldUnreadable: It is of high dynamic range or of a wide gamut, and has no ICC profile to convert it by.
    """
    profiles = [data[box.start : box.end] for box in _properties(data) if box.kind == b"colr"]
    if any(profile[:4] in {b"prof", b"rICC"} for profile in profiles):
        return
    for profile in profiles:
        if profile[:4] == b"nclx" and len(profile) >= 8:
            primaries, transfer = struct.unpack_from(">HH", profile, 4)
            if not is_standard_range(primaries, transfer):
                raise FieldUnreadable(HIGH_DYNAMIC_RANGE)


def is_standard_range(primaries: int, transfer: int) -> bool:
    """Return whether an image's code points, those of ITU-T H.273, mean numbers that may be taken for sRGB."""
    return primaries in _SDR_PRIMARIES and transfer in _SDR_TRANSFERS


def _brands(data: bytes) -> set[bytes]:
    """Return the major and the compatible brands of a file; none if it is no ISO media file."""
    box = next(iter_boxes(data), None)
    if box is None or box.kind != b"ftyp":
        return set()
    content = data[box.start : box.end]
    return {content[:4], *(content[i : i + 4] for i in range(8, len(content), 4))}


def _properties(data: bytes) -> Iterator[MediaBox]:
    """Yield the properties of a file's items."""
    for meta in iter_boxes(data):
        if meta.kind == b"meta":
            for iprp in iter_boxes(data, meta.start + 4, meta.end):  # behind its version
                if iprp.kind == b"iprp":
                    for ipco in iter_boxes(data, iprp.start, iprp.end):
                        yield from iter_boxes(data, ipco.start, ipco.end) if ipco.kind == b"ipco" else ()

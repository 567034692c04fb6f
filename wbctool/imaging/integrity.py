"""Tell whether a file holds every pixel that its header promises, and whether an image shows them all."""

from __future__ import annotations

import re

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from wbctool.errors import FieldUnreadable

MIN_HOLE_BYTES = 512  # of zeros in compressed pixels
_DISK_BLOCK = 4096
_MIN_COPIED_IN_PARTS = 4096  # bytes of a file
_MISSING_GRAY, _MAX_MISSING_DIFFERENCE = 128, 2  # what a JPEG decoder makes of missing data; after saving it again
_BLOCK_ROWS = 256
_SIDES_BY_TURNS = (("lower", "rows"), ("left", "columns"), ("upper", "rows"), ("right", "columns"))  # then below
_MIN_MISSING_SHARE = 0.12  # of the rows, if the image ends with a row of blocks
_SURE_MISSING_SHARE = 0.25  # of the rows, wherever it ends: it may have been cut or scaled
_BLOCK_PX, _MIXED_PX = 8, 2  # of a JPEG; the rows behind its edge in which saving it again mixes both colors
_END_OF_JPEG = b"\xff\xd9"


def incomplete_error(reason: str) -> FieldUnreadable:
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
        raise incomplete_error("a part of it is zeros")


def check_end_copied(data: bytes, end: int) -> None:
    """Raise FieldUnreadable if a file's last quarter is zeros, as a copy leaves it that took the room beforehand.

    For formats without a mark at their end; the others miss it.

    Args:
        data: The file's bytes; zeros behind the image do not matter.
        end: Where the image ends in it.
    """
    end = min(end, len(data))
    if end > _MIN_COPIED_IN_PARTS and not any(data[end - end // 4 :]):
        raise FieldUnreadable("the last quarter of the file is zeros: it was not copied completely; copy it again")


def check_no_block_hole(data: bytes, start: int, end: int, row_bytes: int) -> None:
    """Raise FieldUnreadable if uncompressed pixels have a hole of whole blocks of a disk.

    Zeros may also be a black bar, or the corner beside the ring of an eyepiece. A bar begins with a row of pixels, and
    a corner hardly ever with a block.

    Args:
        data: The file's bytes.
        start: Where the pixels begin in it.
        end: Where they end.
        row_bytes: The bytes of a row of pixels.
    """
    zeros, position = bytes(_DISK_BLOCK), start
    while (position := data.find(zeros, position, end)) >= 0:
        after = re.compile(rb"[^\0]").search(data, position)
        stop = after.start() if after else len(data)
        is_row = (position - start) % row_bytes == 0
        if not (position % _DISK_BLOCK or is_row) and (stop == len(data) or stop % _DISK_BLOCK == 0):
            raise incomplete_error("a part of it is zeros")
        position = stop


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
        raise incomplete_error(str(error)) from error
    if found_width != width or found_height < height:
        raise incomplete_error(f"a strip or tile of {width}×{height} pixels holds {found_width}×{found_height}")


def describe_missing(rgb: NDArray[np.uint8]) -> str:
    """Say how much of an image, at one of its sides, is of the gray that decoders make of missing data.

    A program that opens an incomplete JPEG and saves it again makes a whole file of it, and may turn it.

    Args:
        rgb: (H, W, 3) uint8 RGB.

    Returns:
        For example ``the lower 240 of 480 rows``; empty if nothing is missing.
    """
    for quarter_turns, (side, lines) in enumerate(_SIDES_BY_TURNS):
        turned = np.rot90(rgb, quarter_turns)
        n_missing = count_missing_rows(turned)
        if n_missing >= (_SURE_MISSING_SHARE * len(turned) if quarter_turns else 1):  # at other sides it may be a panel
            return f"the {side} {n_missing} of {len(turned)} {lines}"
    return ""


def count_missing_rows(rgb: NDArray[np.uint8]) -> int:
    """Count the rows at the bottom that are of the gray of missing data.

    A bar of that gray is lower, and the row above it is of the image, or of a caption with margins on both sides.

    Args:
        rgb: (H, W, 3) uint8 RGB.
    """
    if not _is_missing(rgb[-1:])[0] or _is_missing(rgb[:1])[0]:  # the latter is a gray border
        return 0
    first = _find_missing_rows(rgb)
    n_rows = len(rgb) - first
    ends_within_row = False
    if first >= _BLOCK_PX:
        row = rgb[None, first - _BLOCK_PX // 2]
        ends_within_row = not _is_missing(row[:, :_BLOCK_PX])[0] and bool(_is_missing(row[:, -_BLOCK_PX:])[0])
    is_aligned = first % _BLOCK_PX <= _MIXED_PX or n_rows >= _SURE_MISSING_SHARE * len(rgb)
    ends_at_row = is_aligned and n_rows >= _MIN_MISSING_SHARE * len(rgb)
    return n_rows if ends_within_row or ends_at_row else 0


def _find_missing_rows(rgb: NDArray[np.uint8]) -> int:
    """Return from which row on all are missing; a block at a time, since a field may have 300 megapixels."""
    for end in range(len(rgb), 0, -_BLOCK_ROWS):
        start = max(0, end - _BLOCK_ROWS)
        if len(present := np.flatnonzero(~_is_missing(rgb[start:end]))):
            return start + int(present[-1]) + 1
    return 0


def _is_missing(rows: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each row is of the gray of missing data."""
    differences = np.abs(rows.reshape(len(rows), -1).astype(np.int16) - _MISSING_GRAY)
    return np.asarray(differences.max(axis=1) <= _MAX_MISSING_DIFFERENCE)

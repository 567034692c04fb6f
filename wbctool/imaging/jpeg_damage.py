"""Find the line behind which a damaged JPEG goes on in another brightness or color.

A JPEG stores the mean of each block as its difference from that of the block before. After a changed byte the decoder
goes on, without a word, with a mean that is wrong for the rest of the image: a step along a row of blocks, on whose
other side the same cells go on. No lamp and no smear has such a step. At a frame, a caption or a second photograph the
cells end, a translucent bar lies at the border, and a stitched image has seams in both directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK_PX = 8  # of a JPEG
_NEAR_PX = 3  # rows on either side of the step
_FAR_PX = 16  # rows on either side, in which the brightness stays as it is behind the step; a line is thinner
_MAX_WIDTH_PX = 640  # columns that are looked at
_MIN_SIDE_PX = 64  # a smaller image is not judged
_MIN_STEP = 12.0  # gray levels, in one channel
_MIN_SHARPNESS = 0.6  # of the step, between two neighboring rows; the edge of a cell is softer
_BORDER_SHARE = 0.12  # of the rows, at either side: a step there may be that of a bar with text
_MIN_STEP_SHARE = 0.45  # of the columns: the first row of blocks may be damaged from its middle on
_MIN_LASTING = 0.4  # of the step
_MIN_CONTINUITY = 0.5  # the correlation of both sides, along the step
_MAX_CONTRAST_CHANGE = 2.0  # the ratio of the contrasts of both sides, either way, unless one of them is clipped
_DARKEST, _BRIGHTEST = 5, 250  # of 255; outside, a side is clipped
_MIN_DETAIL_STD = 2.0  # gray levels, along the step; a frame or a caption has less


def describe_jpeg_damage(rgb: NDArray[np.uint8]) -> str:
    """Say where an image changes its brightness or color, while its cells go on.

    Args:
        rgb: (H, W, 3) uint8 RGB, also turned since; not cropped or scaled, which moves or blurs the rows of blocks.

    Returns:
        For example ``at row 240 of 480``; empty if it does not.
    """
    if min(rgb.shape[:2]) < _MIN_SIDE_PX:
        return ""
    row, column = _find_damage(rgb), _find_damage(rgb.transpose(1, 0, 2))
    if row is not None and column is None:
        return f"at row {row} of {rgb.shape[0]}"
    return f"at column {column} of {rgb.shape[1]}" if column is not None and row is None else ""


def _find_damage(rgb: NDArray[np.uint8]) -> int | None:
    """Return the first row behind a step between two rows of blocks."""
    for first in sorted({0, len(rgb) % _BLOCK_PX}):  # if the image was turned, blocks are counted from the other side
        start = _find_step(rgb[first:])
        if start is not None:
            return first + start
    return None


def _find_step(rgb: NDArray[np.uint8]) -> int | None:
    """Return the first row behind a step at a multiple of the blocks' height."""
    columns = rgb[:, :: max(1, rgb.shape[1] // _MAX_WIDTH_PX)]
    border = max(_FAR_PX, round(_BORDER_SHARE * len(columns)))
    starts = np.arange(-(-border // _BLOCK_PX) * _BLOCK_PX, len(columns) - border + 1, _BLOCK_PX)
    sharp = columns[starts].astype(np.int16) - columns[starts - 1]
    for start in starts[_share_of_columns(sharp, _MIN_SHARPNESS * _MIN_STEP) > _MIN_STEP_SHARE]:
        near, far = _mean_rows(columns, start, 0, _NEAR_PX), _mean_rows(columns, start, _FAR_PX // 2, _FAR_PX)
        step = near[1] - near[0]
        is_sharp = np.abs(columns[start].astype(np.float32) - columns[start - 1]) > _MIN_SHARPNESS * np.abs(step)
        has_step = _share_of_columns((step * is_sharp)[np.newaxis], _MIN_STEP)[0] > _MIN_STEP_SHARE
        if has_step and _is_lasting(step, far[1] - far[0]) and _is_continued(*near):
            return int(start)
    return None


def _share_of_columns(steps: NDArray[Any], min_step: float) -> NDArray[np.float64]:
    """Return in what share of the columns steps, (N, W, 3), are at least so large, of one sign and in one channel."""
    brighter, darker = ((sign * steps > min_step).mean(axis=1) for sign in (1, -1))
    return np.asarray(np.maximum(brighter, darker).max(axis=1))


def _mean_rows(
    rgb: NDArray[np.uint8], start: int, nearest: int, farthest: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of rows above and of rows below a step, (W, 3) each, that lie so far from it."""
    above, below = rgb[start - farthest : start - nearest], rgb[start + nearest : start + farthest]
    return above.mean(axis=0, dtype=np.float32), below.mean(axis=0, dtype=np.float32)


def _is_lasting(step: NDArray[np.float32], farther: NDArray[np.float32]) -> bool:
    """Return whether the brightness stays changed behind a step, (W, 3), in the channel where it changes most."""
    changes = np.median(step, axis=0)
    channel = int(np.abs(changes).argmax())
    return bool(np.median(farther[:, channel]) / changes[channel] > _MIN_LASTING) if changes[channel] else False


def _is_continued(above: NDArray[np.float32], below: NDArray[np.float32]) -> bool:
    """Return whether what lies on both sides of a step, (W, 3) each, is the same but for its brightness and color."""
    for sides in zip(above.T, below.T, strict=True):
        low, high = sorted(float(side.std()) for side in sides)
        is_clipped = any(not _DARKEST < np.median(side) < _BRIGHTEST for side in sides)
        is_alike = low >= _MIN_DETAIL_STD and (is_clipped or high <= _MAX_CONTRAST_CHANGE * low)
        if is_alike and np.corrcoef(*sides)[0, 1] > _MIN_CONTINUITY:
            return True
    return False

"""Find the line behind which a damaged JPEG goes on in another brightness or color.

A JPEG stores the mean of each block as its difference from that of the block before. After a changed byte the decoder
goes on, without a word, with a mean that is wrong for the rest of the image: a step along a row of blocks, on whose
other side the same cells go on. No lamp and no smear has such a step; a frame, a caption or a second photograph has,
but there the cells end.
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
_MIN_STEP = 8.0  # gray levels, in one channel
_MIN_SHARPNESS = 0.6  # of the step, between two neighboring rows; the edge of a cell is softer
_MIN_STEP_SHARE = 0.45  # of the columns: the first row of blocks may be damaged from its middle on
_MIN_LASTING = 0.4  # of the step
_MIN_CONTINUITY = 0.5  # the correlation of both sides, along the step
_MIN_DETAIL_STD = 2.0  # gray levels, along the step; a frame or a caption has less


def describe_break(rgb: NDArray[np.uint8]) -> str:
    """Say where an image goes on in another brightness or color, while its cells go on.

    Args:
        rgb: (H, W, 3) uint8 RGB.

    Returns:
        For example ``from row 240 of 480 on``; empty if it does not.
    """
    for turned, lines in ((rgb, "row"), (rgb.transpose(1, 0, 2), "column")):  # a viewer may have turned it
        size = len(turned)
        if min(turned.shape[:2]) < _MIN_SIDE_PX:
            return ""
        for first in sorted({0, size % _BLOCK_PX}):  # if it was turned, blocks are counted from the other side
            start = _find_step(turned[first:])
            if start is not None:
                return f"from {lines} {first + start} of {size} on"
    return ""


def _find_step(rgb: NDArray[np.uint8]) -> int | None:
    """Return the first row behind the step of a damaged JPEG whose blocks begin at the first row."""
    columns = rgb[:, :: max(1, rgb.shape[1] // _MAX_WIDTH_PX)]
    starts = np.arange(_FAR_PX, len(columns) - _FAR_PX + 1, _BLOCK_PX)
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
    if min(above.std(axis=0).max(), below.std(axis=0).max()) < _MIN_DETAIL_STD:
        return False
    return any(
        min(a.std(), b.std()) >= _MIN_DETAIL_STD and np.corrcoef(a, b)[0, 1] > _MIN_CONTINUITY
        for a, b in zip(above.T, below.T, strict=True)
    )

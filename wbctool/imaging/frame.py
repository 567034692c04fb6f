"""The image inside a frame: bars at its sides, a border of one color, or the ring of an eyepiece."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_MAX_DIFFERENCE = 8.0  # gray levels of any channel, within a bar: noise and compression
_MIN_EDGE_SHARE = 0.6  # of a bar's first and last row have its color
_MIN_BAR_SHARE = 0.25  # of each other row of a bar have its color; a text may take the rest
_BEHIND_PX, _MAX_BEHIND_SHARE = 3, 0.1  # so many rows behind a bar have no more of its color; behind glass is more
_MAX_RING = 0.3  # of the background's brightness, of the corners around an eyepiece's picture
_MAX_EVEN_RING = 0.6  # the same, if they are all of one color
_BACKGROUND_QUANTILE = 0.98
_MIN_RING_CORNERS = 3  # the fourth may lie inside the picture
_MIN_IMAGE_SHARE, _MIN_ROUND_SHARE = 0.1, 0.05  # of the pixels; less is no image in a frame
_MAX_ROUND_FILL = 0.9  # of the rectangle around it
_EDGE_SHARE = 0.03  # of the longer side: the blurred edge of a ring


def find_image_area(rgb: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Find the image inside its frame.

    Args:
        rgb: (H, W, 3) uint8 RGB, a field reduced to some hundred pixels a side.

    Returns:
        (H, W) bool, true inside the image; None if there is no frame, as in most fields.
    """
    height, width = rgb.shape[:2]
    top, bottom = _trim(rgb)
    if top >= bottom:
        return None
    left, right = _trim(rgb[top:bottom].transpose(1, 0, 2))
    if left >= right:
        return None
    has_side_bars = (left, right) != (0, width)
    if has_side_bars and (top, bottom) == (0, height):  # between these, the others may show to be of one color
        top, bottom = _trim(rgb[:, left:right])
    inside = rgb[top:bottom, left:right]
    if not inside.size:
        return None
    ring = _find_ring(inside)
    if ring is None and inside.shape == rgb.shape:
        return None
    image_area = np.zeros((height, width), bool)
    image_area[top:bottom, left:right] = True if ring is None else ~ring
    return image_area if image_area.mean() > (_MIN_ROUND_SHARE if _is_round(image_area) else _MIN_IMAGE_SHARE) else None


def _is_round(image_area: NDArray[np.bool_]) -> bool:
    """Return whether an image is that of an eyepiece, and no label on a dark photograph."""
    rows, columns = (np.flatnonzero(image_area.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return False
    return float(image_area[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()) < _MAX_ROUND_FILL


def _trim(rgb: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the first row behind the bar at the top, and that of the bar at the bottom; 0 and H without bars."""
    return _bar_height(rgb), len(rgb) - _bar_height(rgb[::-1])


def _bar_height(rgb: NDArray[np.uint8]) -> int:
    """Return the number of rows at the top that are of one color, which the picture behind them has not."""
    quarter = rgb.shape[1] // 4  # bars at the sides have the same color
    rgb = rgb[:, quarter : rgb.shape[1] - quarter]
    color = np.sort(rgb[0], axis=0)[rgb.shape[1] // 2].astype(np.int16)  # the median, ten times as fast
    if _share_of(color, rgb[:1])[0] < _MIN_EDGE_SHARE:  # as in most fields
        return 0
    shares = _share_of(color, rgb)
    others = np.flatnonzero(shares < _MIN_BAR_SHARE)
    if not len(others):
        return 0
    height = int(others[0])  # a bar ends abruptly, while glass gives way to cells by and by
    is_bar = shares[height - 1] >= _MIN_EDGE_SHARE and shares[height : height + _BEHIND_PX].mean() < _MAX_BEHIND_SHARE
    return height + 1 if is_bar else 0  # one more, in which the reduced image mixes both


def _share_of(color: NDArray[np.int16], rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of each row that is of a color."""
    return np.asarray((np.abs(rows - color).max(axis=-1) < _MAX_DIFFERENCE).mean(axis=1))


def _find_ring(rgb: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Return the dark surroundings of a round picture, which reach its corners; None if there are none."""
    corners = np.ix_((0, -1), (0, -1))
    # as in most fields
    if np.count_nonzero(rgb[corners].max(axis=-1) <= _MAX_EVEN_RING * rgb.max()) < _MIN_RING_CORNERS:
        return None
    brightness = rgb.max(axis=-1)
    background = float(np.quantile(brightness, _BACKGROUND_QUANTILE))
    dark = brightness <= _MAX_RING * background
    color = np.median(rgb[corners].reshape(4, 3), axis=0).astype(np.int16)
    if color.max() <= _MAX_EVEN_RING * background:
        dark |= np.abs(rgb - color).max(axis=-1) < _MAX_DIFFERENCE
    if np.count_nonzero(dark[corners]) < _MIN_RING_CORNERS:
        return None
    count, labels = cv2.connectedComponents(dark.astype(np.uint8))
    reaches_corner = np.zeros(count, bool)
    reaches_corner[labels[corners]] = True
    ring = reaches_corner[labels] & dark
    edge = 2 * round(_EDGE_SHARE * max(ring.shape)) + 1
    return cv2.dilate(ring.astype(np.uint8), np.ones((edge, edge), np.uint8)) > 0

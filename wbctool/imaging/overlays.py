"""What programs draw over photographs: scale bars, text and boxes in pure colors."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LONG_SIDE_PX = 640  # of what overlays are looked for in
_MIN_PURITY = 0.8  # of the brightest channel; dark nuclei are as pure, but neither bright nor green
_MAX_GRADIENT = 4  # of 255; JPEG leaves a plane of one color so flat, and no nucleus is
_MIN_BRIGHTNESS = 180  # of 255
_MIN_VIOLET = 0.1  # of the brightest channel: the other but green, in nuclei, also with red and blue exchanged
_MAX_SHARE, _MAX_REDUCED_SHARE = 0.1, 0.5  # of the pixels, and of those reduced; above, it is no overlay


def find_overlays(rgb: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Find scale bars, text and boxes in pure colors.

    No stain but violet is as pure and bright, and none is pure and green. Where much of an image is, these are its own
    colors.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        shape: (h, w), of the image reduced.

    Returns:
        (h, w) bool, true where the reduced image shows an overlay.
    """
    step = max(1, max(rgb.shape[:2]) // _LONG_SIDE_PX)
    red, green, blue = cv2.split(np.ascontiguousarray(rgb[::step, ::step]))
    brightest, darkest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    is_pure = darkest < (1 - _MIN_PURITY) * brightest.astype(np.float32)
    is_green = is_pure & (green == brightest)
    is_violet = (green == darkest) & (cv2.min(red, blue) > _MIN_VIOLET * brightest.astype(np.float32))
    overlay = is_pure & ~is_violet & (brightest >= _MIN_BRIGHTNESS)
    if is_green.any():
        is_flat = cv2.morphologyEx(green, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) <= _MAX_GRADIENT
        overlay |= is_green & (cv2.dilate((is_green & is_flat).astype(np.uint8), np.ones((15, 15), np.uint8)) > 0)
    if not overlay.any() or overlay.mean() > _MAX_SHARE:
        return np.zeros(shape, bool)
    thick = cv2.dilate(overlay.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(np.float32)
    reduced = np.asarray(cv2.resize(thick, shape[::-1], interpolation=cv2.INTER_AREA) > 0)
    return reduced if reduced.mean() < _MAX_REDUCED_SHARE else np.zeros(shape, bool)

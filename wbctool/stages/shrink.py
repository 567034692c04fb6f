"""Reducing a picture, as cheaply as it can be."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def shrink(picture: Picture, width: int, height: int) -> Picture:
    """To ``width`` × ``height``, no larger than it is. picture: (H, W) or (H, W, 3) uint8.

    Halved by area while that leaves enough, then by interpolation: no pixel is skipped if both sides shrink alike, and
    OpenCV needs a fifth of the time that it takes by area at an odd ratio.
    """
    while picture.shape[0] >= 2 * height and picture.shape[1] >= 2 * width:
        half = picture.shape[1] // 2, picture.shape[0] // 2
        picture = cv2.resize(picture, half, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)

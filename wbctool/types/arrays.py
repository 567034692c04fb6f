"""Names of the kinds of arrays that functions pass on; each docstring gives the shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Pixels of any channels, (H, W) or (H, W, C)."""
Rgb = NDArray[np.uint8]
"""Red, green and blue: one image (H, W, 3), or several (N, H, W, 3)."""
FloatArray = NDArray[np.float32]

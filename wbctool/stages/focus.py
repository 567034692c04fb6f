"""Focus of a field: the width of its cells' sharpest edges. Nothing is learned.

Blurring an edge of Gaussian width s once more by s0 lowers its gradient by the ratio r = sqrt(s² + s0²) / s, so
s = s0 / sqrt(r² - 1) (Zhuo and Sim 2011, Pattern Recognition 44:1852, doi 10.1016/j.patcog.2011.03.009). The sharpness
measures that Pertuz et al. 2013 compare (doi 10.1016/j.patcog.2012.11.011; variance of the Laplacian among them) need a
second image of the same place; this width does not, and it has a unit. With red cells of 7.5 µm as the scale it is µm
of smear, for any camera and field. The lens alone gives about 0.21 λ/NA, 0.09 µm for an oil immersion objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.types.arrays import FloatArray
from wbctool.types.cells import RED_CELL_UM, Box, Field

_RED_CELL_PX = 130  # the scale at which edges are measured; a coarser one blurs them more than a lens does
_MAX_PATCH_PX = 800  # at that scale: 46 µm, more than any cell measures
_MAX_CELLS = 8  # all cells give the same width within about 7 %, in three times the time
_EDGE_FRACTION = 0.05  # the share of the cells' pixels that counts as edges
_SAMPLING_STEP = 16  # quantiles are taken of every 16th pixel: sorting all takes longer than all the rest
_EXTRA_BLUR_PX, _LARGE_BLUR_PX, _WIDE_EDGE_PX = 1.0, 3.0, 3.3
_MARGIN = 0.15  # around a cell's box, which holds the outer half of a blurred edge

GrayImage = NDArray[np.uint8]


def estimate_blur_px(field: Field, cells: Sequence[Box], um_per_px: float) -> float | None:
    """Estimate the width of the sharpest edges of some cells.

    A median filter comes first, because the noise of a camera looks like sharpness.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        cells: The boxes of its cells.
        um_per_px: The side of a pixel in µm of smear.

    Returns:
        The edges' Gaussian sigma in native pixels; None without a cell.

    References:
        Zhuo and Sim 2011, Pattern Recognition 44:1852, doi 10.1016/j.patcog.2011.03.009.
    """
    native_patches = list(_extract_patches(field.rgb, cells))
    if not native_patches:
        return None
    longest_px = max(max(patch.shape) for patch in native_patches)  # a wrong um_per_px must not take all memory
    scale = float(min(_RED_CELL_PX * um_per_px / RED_CELL_UM, _MAX_PATCH_PX / longest_px))
    patches = [_rescale_patch(patch, scale) for patch in native_patches]
    width = _measure_edge_width(patches, _EXTRA_BLUR_PX)
    if width > _WIDE_EDGE_PX:  # the small extra blur hardly changes wide edges, so noise would decide
        width = max(width, _measure_edge_width(patches, _LARGE_BLUR_PX))
    return width / scale


def _extract_patches(rgb: NDArray[np.uint8], cells: Sequence[Box]) -> Iterator[GrayImage]:
    """Yield the green channel of some cells, because hemoglobin and stained nuclei absorb green light most."""
    indices = np.linspace(0, len(cells) - 1, min(len(cells), _MAX_CELLS)).round().astype(int)
    for box in (cells[index] for index in indices.tolist()):
        margin = round(_MARGIN * box.longer_side_px)
        top, left = max(0, box.y - margin), max(0, box.x - margin)
        patch = rgb[top : box.y + box.height + margin, left : box.x + box.width + margin, 1]
        if min(patch.shape) >= 3:
            yield np.ascontiguousarray(patch)


def _rescale_patch(patch: GrayImage, scale: float) -> GrayImage:
    """Remove the noise of a patch and resize it."""
    size = max(3, round(patch.shape[1] * scale)), max(3, round(patch.shape[0] * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(cv2.medianBlur(patch, 3), size, interpolation=interpolation).astype(np.uint8, copy=False)


def _measure_edge_width(patches: Sequence[GrayImage], extra_px: float) -> float:
    """Measure the median width of the sharpest edges in patch pixels, by blurring them with sigma ``extra_px``."""
    before = _squared_gradients(patches)
    after = _squared_gradients([cv2.GaussianBlur(p.astype(np.float32), (0, 0), extra_px) for p in patches])
    edges = np.flatnonzero(before >= np.quantile(before[::_SAMPLING_STEP], 1 - _EDGE_FRACTION))
    squared_ratio = float(np.median(before[edges] / np.maximum(after[edges], 1e-6)))
    return float(extra_px / np.sqrt(max(squared_ratio - 1, 1e-3)))


def _squared_gradients(patches: Sequence[NDArray[Any]]) -> FloatArray:
    """Return the squared gradient of each pixel of uint8 or float32 patches, (n,) float32."""
    squared = np.empty(sum(patch.size for patch in patches), np.float32)
    end = 0
    for patch in patches:
        start, end = end, end + patch.size
        depth = cv2.CV_16S if patch.dtype == np.uint8 else cv2.CV_32F  # integers are four times as fast
        across, down = (cv2.Scharr(patch, depth, *axis).ravel().astype(np.float32) for axis in ((1, 0), (0, 1)))
        # cv2.magnitude's last digits depend on the memory address of its input. The sums are made in place, because
        # allocating memory takes longer than they do.
        np.multiply(across, across, out=squared[start:end])
        down *= down
        squared[start:end] += down
    return squared

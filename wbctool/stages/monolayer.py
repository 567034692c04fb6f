"""The monolayer of a scan, where red cells lie side by side: which zones are looked at, and in which order.

First every zone is judged by a small picture of it: glass is smooth and bright, a thick part smooth and dark, and at
the edge of the smear there is glass beside cells. Then the red cells are looked at in a part of a zone, as a reader
does before going on: how much of it they cover, and how many lie apart from the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale
from wbctool.types.cells import Detection, ObjectClass
from wbctool.types.scans import PassedOver

OVERVIEW_PX = 64  # the side of the small picture of a zone: of 200 µm and more, so a red cell has about two pixels
_BLOCKS = 4  # rows and columns of blocks in it
_SMOOTH_STD = 5.0  # gray levels of green, in a block without cells: noise and compression
_GLASS_BRIGHTNESS = 0.85  # of the brightest block of the scan
_MAX_GLASS_SHARE = 0.15  # of the blocks; with more a zone lies at the edge
_EMPTY_SHARE = 0.9
_DARK_SHARE = 0.5
_MIN_RED_CELLS = 3
_FULL_COVERAGE = 0.2  # above, more red cells make a zone no better
_MIN_APART = 0.3  # the share of the covered area that single red cells explain; in a rouleau or a clump none is found


@dataclass(frozen=True, slots=True)
class Overview:
    """A zone in its small picture.

    Attributes:
        brightness: (n,) float, the mean green of each block.
        variation: (n,) float, the standard deviation of green in each block.
    """

    brightness: NDArray[np.float64]
    variation: NDArray[np.float64]


def measure_overview(rgb: NDArray[np.uint8]) -> Overview:
    """Measure a zone.

    Args:
        rgb: (H, W, 3) uint8 RGB, the zone at a low resolution.

    Returns:
        The brightness and the variation of its blocks, at 64 pixels a side.
    """
    if min(rgb.shape[:2]) > OVERVIEW_PX:
        rgb = downscale(rgb, OVERVIEW_PX, OVERVIEW_PX)
    rows = np.array_split(rgb[..., 1], _BLOCKS)
    blocks = [block for row in rows for block in np.array_split(row, _BLOCKS, axis=1) if block.size]
    return Overview(np.array([block.mean() for block in blocks]), np.array([block.std() for block in blocks]))


def judge_overview(overview: Overview, brightest: float) -> PassedOver | None:
    """Decide by the small picture whether a zone is passed over.

    Args:
        overview: The zone's measures.
        brightest: The brightness of the brightest block of the scan.

    Returns:
        Why it is passed over; None if its red cells are to be looked at.
    """
    is_smooth = overview.variation < _SMOOTH_STD
    is_bright = overview.brightness > _GLASS_BRIGHTNESS * brightest
    glass_share = float((is_smooth & is_bright).mean())
    if glass_share > _EMPTY_SHARE:
        return PassedOver.EMPTY
    if glass_share > _MAX_GLASS_SHARE:
        return PassedOver.EDGE
    return PassedOver.CROWDED if (is_smooth & ~is_bright).mean() > _DARK_SHARE else None


def judge_red_cells(
    detections: Sequence[Detection], area_px: int, coverage: float | None, max_coverage: float
) -> PassedOver | float:
    """Decide by its red cells how good a zone is.

    Args:
        detections: What was found in a part of the zone.
        area_px: The area of the part, in pixels.
        coverage: The share of the part that red cells cover, single or not, in [0, 1]; None without a red cell.
        max_coverage: The largest share with which a zone is not crowded.

    Returns:
        Why the zone is passed over, or how good it is, in [0, 1]: the share of the covered area that single red cells
        explain, less if they cover little.
    """
    boxes = [d.box for d in detections if d.object_class is ObjectClass.RED_CELL]
    if len(boxes) < _MIN_RED_CELLS or not coverage:
        return PassedOver.NO_RED_CELLS
    single_area = math.pi / 4 * sum(box.area for box in boxes)
    apart = min(1.0, single_area / (coverage * area_px))
    if coverage > max_coverage or apart < _MIN_APART:
        return PassedOver.CROWDED
    return apart * min(1.0, coverage / _FULL_COVERAGE)

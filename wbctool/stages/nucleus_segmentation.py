"""Classical segmentation of white cells by their nuclei: a second opinion if the detector's scores are low.

Colors are balanced. The nucleus is what is strong in magenta and in saturation and not dark (Tavakoli et al. 2021, doi
10.1038/s41598-021-98599-0). The thresholds are Otsu's, computed for each field. The size of the field's largest nucleus
decides which lobes are joined and which objects are too small.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.types.cells import Box, Detection, Field

_LONG_SIDE_PX = 320
_MIN_CELL_PX = 64  # the smallest side of a cell after scaling, if its size is known
_BOX_EXPANSION = 1.3  # of a nucleus's box to the cell's box
# Of the first split's width: what is farther apart above the threshold is red cells and nuclei.
_SECOND_SPLIT_RATIO = 0.7
_CLOSING_FRACTION = 0.35  # of the largest nucleus's diameter: closer lobes are one nucleus
_MIN_AREA_FRACTION = 0.2  # of the largest nucleus's area
_MIN_FIELD_FRACTION = 0.001  # of the field's pixels: the smallest nucleus, if the cells' size is not known
_MIN_SIDE_FRACTION = 0.2  # of a cell's side: the smallest nucleus, if the cells' size is known
_MIN_ASPECT_RATIO = 0.85


def find_cells_by_nuclei(field: Field, cell_px: float | None = None) -> tuple[Detection, ...]:
    """Find the white cells of a field by their nuclei.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        cell_px: The approximate side of a cell in native pixels; None if it is not known and the field shows few cells.

    Returns:
        The cells, largest nucleus first. The score is the nucleus's area over that of the largest nucleus.

    References:
        Tavakoli et al. 2021, Scientific Reports 11:19428, doi 10.1038/s41598-021-98599-0.
    """
    height, width = field.rgb.shape[:2]
    scale = min(1.0, max(_LONG_SIDE_PX / max(height, width), _MIN_CELL_PX / cell_px if cell_px else 0.0))
    min_area_px = _MIN_FIELD_FRACTION * height * width if cell_px is None else (_MIN_SIDE_FRACTION * cell_px) ** 2
    downscaled = cv2.resize(field.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    intensity = _compute_stain_intensity(cv2.GaussianBlur(downscaled, (0, 0), 0.8).astype(np.uint8))
    nuclei = _find_components(cv2.morphologyEx(_segment_nuclei(intensity), cv2.MORPH_OPEN, _disk_kernel(3)))
    if not len(nuclei):
        return ()
    diameter = float(np.sqrt(4 / np.pi * nuclei[:, cv2.CC_STAT_AREA].max()))
    components = _find_components(
        cv2.morphologyEx(
            _segment_nuclei(intensity), cv2.MORPH_CLOSE, _disk_kernel(max(3, int(_CLOSING_FRACTION * diameter) | 1))
        )
    )
    areas = components[:, cv2.CC_STAT_AREA]
    large_components = components[(areas >= _MIN_AREA_FRACTION * areas.max()) & (areas >= min_area_px * scale**2)]
    detections = [
        Detection(
            _expand_to_cell_box(component[:4] / scale, width, height), float(component[cv2.CC_STAT_AREA] / areas.max())
        )
        for component in large_components
    ]
    return tuple(sorted(detections, key=lambda detection: -detection.score))


def _compute_stain_intensity(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return min(magenta, saturation) minus black, (H, W) uint8, of the color-balanced field."""
    gray_level = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).mean()
    means = np.maximum(rgb.reshape(-1, 3).mean(axis=0), 1.0)
    balanced = np.clip(rgb * (gray_level / means).astype(np.float32), 0, 255)
    red, green, blue = cv2.split(balanced)
    brightest = np.maximum(np.maximum(red, green), blue)
    magenta = 255 * (brightest - green) / np.maximum(brightest, 1.0)
    saturation = cv2.cvtColor(balanced.astype(np.uint8), cv2.COLOR_RGB2HLS)[..., 2].astype(np.float32)
    black = np.clip(255 - brightest - magenta, 0, None)
    intensity: NDArray[np.uint8] = np.clip(np.minimum(magenta, saturation) - black, 0, 255).astype(np.uint8)
    return intensity


def _segment_nuclei(intensity: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a mask of nuclei, (H, W) uint8, by Otsu; a second threshold separates them from dark red cells."""
    threshold = _otsu_threshold(intensity)
    foreground = intensity[intensity > threshold]
    if len(foreground):
        second = _otsu_threshold(foreground)
        low, high = foreground[foreground <= second], foreground[foreground > second]
        separation = low.mean() - intensity[intensity <= threshold].mean()
        if len(high) and high.mean() - low.mean() > _SECOND_SPLIT_RATIO * separation:
            threshold = second
    return (intensity > threshold).astype(np.uint8)


def _otsu_threshold(values: NDArray[np.uint8]) -> float:
    """Return Otsu's threshold of some values."""
    return float(cv2.threshold(values.reshape(1, -1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0])


def _disk_kernel(diameter_px: int) -> NDArray[np.uint8]:
    """Return a disk as a structuring element."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)).astype(np.uint8)


def _find_components(mask: cv2.typing.MatLike) -> NDArray[np.int32]:
    """Return x, y, width, height and area of each connected component, (N, 5)."""
    return np.asarray(cv2.connectedComponentsWithStats(mask)[2][1:], np.int32)


def _expand_to_cell_box(nucleus: NDArray[np.float64], width: int, height: int) -> Box:
    """Expand a nucleus's x, y, width, height in native pixels to the cell's box, clipped to the field."""
    x, y, w, h = nucleus.tolist()
    min_side = _MIN_ASPECT_RATIO * max(w, h)
    half_w, half_h = _BOX_EXPANSION * max(w, min_side) / 2, _BOX_EXPANSION * max(h, min_side) / 2
    left, top = max(0, round(x + w / 2 - half_w)), max(0, round(y + h / 2 - half_h))
    right, bottom = min(width, round(x + w / 2 + half_w)), min(height, round(y + h / 2 + half_h))
    return Box(left, top, max(1, right - left), max(1, bottom - top))

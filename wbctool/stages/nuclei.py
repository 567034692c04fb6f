"""Finding white cells without learning, by their nuclei: a second opinion where the learned detector is not sure.

Colours are balanced, and the nucleus is what is strong in magenta and in saturation at once and not dark, as in
Tavakoli et al. 2021 (doi 10.1038/s41598-021-98599-0). The thresholds are Otsu's, of each field; lobes are joined and
small things left out by the size of the field's largest nucleus.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.records import Box, Detection, Field

_LONG_SIDE_PX = 320
_CELL_PX = 64  # a cell's side after scaling at least, where it is known
_GROWTH = 1.3  # of the nucleus's box to the cell's
_SECOND_SPLIT = 0.7  # of the first split's width: so far apart, what lies above it is red cells and nuclei
_JOIN = 0.35  # of the largest nucleus's diameter: lobes so near are one nucleus
_LEAST_AREA = 0.2  # of the largest nucleus's
_LEAST_SHARE = 0.001  # of the field's pixels: what is smaller is no nucleus, where the cells' size is not known
_LEAST_SIDE = 0.2  # of a cell's side: the same, where it is
_LEAST_ASPECT = 0.85


def find_cells_by_nuclei(field: Field, cell_px: float | None = None) -> tuple[Detection, ...]:
    """The white cells of a field, largest first; the score is the nucleus's area over the largest one's.

    cell_px: about what the cells' sides measure; None where nothing is known, and the field shows few cells.
    """
    height, width = field.rgb.shape[:2]
    scale = min(1.0, max(_LONG_SIDE_PX / max(height, width), _CELL_PX / cell_px if cell_px else 0.0))
    least_area = _LEAST_SHARE * height * width if cell_px is None else (_LEAST_SIDE * cell_px) ** 2
    reduced = cv2.resize(field.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    depth = _nucleus_depth(cv2.GaussianBlur(reduced, (0, 0), 0.8).astype(np.uint8))
    nuclei = _parts(cv2.morphologyEx(_split(depth), cv2.MORPH_OPEN, _disc(3)))
    if not len(nuclei):
        return ()
    diameter = float(np.sqrt(4 / np.pi * nuclei[:, cv2.CC_STAT_AREA].max()))
    joined = _parts(cv2.morphologyEx(_split(depth), cv2.MORPH_CLOSE, _disc(max(3, int(_JOIN * diameter) | 1))))
    areas = joined[:, cv2.CC_STAT_AREA]
    large = joined[(areas >= _LEAST_AREA * areas.max()) & (areas >= least_area * scale**2)]
    found = [
        Detection(_cell_box(part[:4] / scale, width, height), float(part[cv2.CC_STAT_AREA] / areas.max()))
        for part in large
    ]
    return tuple(sorted(found, key=lambda detection: -detection.score))


def _nucleus_depth(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8: min(magenta, saturation) less what is black and not magenta, of the colour-balanced field."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).mean()
    means = np.maximum(rgb.reshape(-1, 3).mean(axis=0), 1.0)
    balanced = np.clip(rgb * (grey / means).astype(np.float32), 0, 255)
    red, green, blue = cv2.split(balanced)
    brightest = np.maximum(np.maximum(red, green), blue)
    magenta = 255 * (brightest - green) / np.maximum(brightest, 1.0)
    saturation = cv2.cvtColor(balanced.astype(np.uint8), cv2.COLOR_RGB2HLS)[..., 2].astype(np.float32)
    black = np.clip(255 - brightest - magenta, 0, None)
    depth: NDArray[np.uint8] = np.clip(np.minimum(magenta, saturation) - black, 0, 255).astype(np.uint8)
    return depth


def _split(depth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Otsu's split into nuclei (1) and the rest; a second one where stained red cells came along."""
    threshold = _otsu(depth)
    above = depth[depth > threshold]
    if len(above):
        second = _otsu(above)
        low, high = above[above <= second], above[above > second]
        apart = low.mean() - depth[depth <= threshold].mean()
        if len(high) and high.mean() - low.mean() > _SECOND_SPLIT * apart:
            threshold = second
    return (depth > threshold).astype(np.uint8)


def _otsu(values: NDArray[np.uint8]) -> float:
    return float(cv2.threshold(values.reshape(1, -1), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0])


def _disc(diameter_px: int) -> NDArray[np.uint8]:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter_px, diameter_px)).astype(np.uint8)


def _parts(mask: cv2.typing.MatLike) -> NDArray[np.int32]:
    """(N, 5): x, y, width, height and area of each connected part."""
    return np.asarray(cv2.connectedComponentsWithStats(mask)[2][1:], np.int32)


def _cell_box(nucleus: NDArray[np.float64], width: int, height: int) -> Box:
    """The nucleus's x, y, width, height in native pixels, grown to the cell's and kept inside the field."""
    x, y, w, h = nucleus.tolist()
    least = _LEAST_ASPECT * max(w, h)
    half_w, half_h = _GROWTH * max(w, least) / 2, _GROWTH * max(h, least) / 2
    left, top = max(0, round(x + w / 2 - half_w)), max(0, round(y + h / 2 - half_h))
    right, bottom = min(width, round(x + w / 2 + half_w)), min(height, round(y + h / 2 + half_h))
    return Box(left, top, max(1, right - left), max(1, bottom - top))

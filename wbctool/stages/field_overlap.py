"""Overlapping fields: photographs of one slide that show, in part, the same place of the smear.

A stage moves the camera without turning it, so an overlap is a shift. Fields that only look alike are told from it by
the pixels that both would show: red cells lie nowhere else in the same way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.frame import find_image_area
from wbctool.imaging.thumbnails import decode_gray
from wbctool.stages.overlap_candidates import COARSE_PX, Candidate, find_candidates, flatten_background
from wbctool.types.arrays import FloatArray
from wbctool.types.cells import Box
from wbctool.types.results import FieldThumbnail

_FINE_PX = 240  # the longer side of the images that are compared pixel by pixel
_SIGMAS_PX = 0.7, 4.0  # of those: noise lies below the first, vignetting above the second
_SEARCH_PX = 6  # one and a half pixels of the coarse images
_MIN_CELL_PX = 4.0  # in the fine images; smaller white cells could be taken for their neighbors
_MIN_COARSE_CORRELATION = 0.5  # of the whole shared zone
_MIN_CORRELATION, _MIN_CORRELATION_NARROW = 0.6, 0.72  # of fields that only look alike: at most 0.4 and 0.62
_NARROW_SHARE = 0.15  # of a field: by chance a narrow zone correlates better
_MIN_STD = 2.0  # gray levels, of what is compared: clear glass is the same everywhere
_MIN_TEMPLATE_PX = 2
_CELL_MARGIN = 0.15  # of its side: a box may not hold all of a cell
_MIN_WEIGHT = 1e-3
_CACHED_IMAGES = 64
_MIN_OVERLAY_FIELDS, _MAX_OVERLAY_FIELDS = 5, 40  # fewer do not tell; of more some are enough
_MAX_OVERLAY_DIFFERENCE, _MIN_OVERLAY_DETAIL = 6, 5.0  # gray levels
_MIN_OVERLAY_SHARE = 0.8  # of the fields
_MAX_SAME_SHARE, _MAX_OVERLAY_AREA = 0.9, 0.5  # of the pixels; above, the fields are photographs of one place

Image = TypeVar("Image", FloatArray, NDArray[np.bool_])


@dataclass(frozen=True, slots=True)
class FieldView:
    """What is kept of a field to compare it with others.

    Attributes:
        thumbnail: Its small image.
        cells: The boxes of its white cells, in native pixels.
    """

    thumbnail: FieldThumbnail
    cells: tuple[Box, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Its width and height, in native pixels."""
        return self.thumbnail.width, self.thumbnail.height


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two fields that show the same place.

    Attributes:
        first: The index of the first field.
        second: The index of the second field, which is later.
        dx_px: What shows at (x, y) in the second field shows at (x + dx_px, y + dy_px) in the first, in native pixels.
        dy_px: The same down.
        correlation: The correlation of the pixels that both show.
    """

    first: int
    second: int
    dx_px: float
    dy_px: float
    correlation: float


def find_overlaps(views: Sequence[FieldView]) -> list[Overlap]:
    """Find the fields of a slide that overlap.

    Only fields of the same size are compared, and only where both show a white cell.

    Args:
        views: The fields with white cells, in order.

    Returns:
        The overlaps in order, at most one for each pair.
    """
    indices_by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, view in enumerate(views):
        if median(box.longer_side_px for box in view.cells) * _FINE_PX >= _MIN_CELL_PX * max(view.size):
            indices_by_size[view.size].append(index)
    overlaps = [
        overlap
        for indices in indices_by_size.values()
        if len(indices) > 1
        for overlap in _find_overlaps_of_size([views[index] for index in indices], indices)
    ]
    return sorted(overlaps, key=lambda overlap: (overlap.first, overlap.second))


def _find_overlaps_of_size(views: Sequence[FieldView], indices: Sequence[int]) -> list[Overlap]:
    """Find the overlaps among fields of one size, by their indices."""
    coarse = np.stack([flatten_background(decode_gray(view.thumbnail, COARSE_PX)) for view in views])
    width_px, _ = views[0].size
    scale = coarse.shape[2] / width_px
    centers = [[(scale * x, scale * y) for x, y in (box.center for box in view.cells)] for view in views]
    overlay = _find_overlay([view.thumbnail for view in views])
    load = lru_cache(maxsize=_CACHED_IMAGES)(lambda index: _prepare(views[index], overlay))
    best: dict[tuple[int, int], Overlap] = {}
    for candidate in find_candidates(coarse, centers):
        first, second = coarse[candidate.first], coarse[candidate.second]
        if _correlate(*cut_shared(first, second, candidate.dx, candidate.dy)) < _MIN_COARSE_CORRELATION:
            continue
        pair = indices[candidate.first], indices[candidate.second]
        found = _compare(load(candidate.first), load(candidate.second), candidate)
        if found is not None and (pair not in best or found.correlation > best[pair].correlation):
            to_native = width_px / load(candidate.first).band.shape[1]
            best[pair] = Overlap(*pair, found.dx * to_native, found.dy * to_native, found.correlation)
    return [best[pair] for pair in sorted(best)]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A field as it is compared pixel by pixel.

    Attributes:
        band: (H, W) float32, its details, without noise and vignetting.
        gray: (H, W) uint8, the field.
        between: (H, W) bool, false in white cells and in what lies over all fields.
    """

    band: FloatArray
    gray: NDArray[np.uint8]
    between: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Shift:
    """How far the second field was moved, in pixels of the fine images.

    Attributes:
        dx: How far to the right.
        dy: How far down.
        correlation: How well both fields then correlate where they overlap.
    """

    dx: int
    dy: int
    correlation: float


def _find_overlay(thumbnails: Sequence[FieldThumbnail]) -> NDArray[np.bool_] | None:
    """Return where most fields show the same details: the window of a camera program, its text, a pointer.

    Args:
        thumbnails: The small images of fields of one size.

    Returns:
        (H, W) bool, of the fine images; None if there are too few fields to tell, or nearly all of them show the same.
    """
    if len(thumbnails) < _MIN_OVERLAY_FIELDS:
        return None
    step = math.ceil(len(thumbnails) / _MAX_OVERLAY_FIELDS)
    grays = np.stack([decode_gray(thumbnail, _FINE_PX) for thumbnail in thumbnails[::step]])
    usual = np.median(grays, axis=0).astype(np.float32)
    is_same = (np.abs(grays - usual) <= _MAX_OVERLAY_DIFFERENCE).mean(axis=0) >= _MIN_OVERLAY_SHARE
    if is_same.mean() > _MAX_SAME_SHARE:
        return None
    low, high = (cv2.GaussianBlur(usual, (0, 0), sigma_px) for sigma_px in _SIGMAS_PX)
    has_detail = (np.abs(low - high) > _MIN_OVERLAY_DETAIL).astype(np.uint8)
    overlay = is_same & (cv2.dilate(has_detail, np.ones((9, 9), np.uint8)) > 0)
    return np.asarray(overlay) if overlay.mean() <= _MAX_OVERLAY_AREA else None


def _prepare(view: FieldView, overlay: NDArray[np.bool_] | None) -> _Prepared:
    """Prepare a field, without what lies over all fields."""
    gray = decode_gray(view.thumbnail, _FINE_PX)
    between = np.ones(gray.shape, np.float32) if overlay is None else 1 - overlay.astype(np.float32)
    scale = gray.shape[1] / view.thumbnail.width
    for box in view.cells:
        margin = _CELL_MARGIN * box.longer_side_px
        x, y = (max(0, math.floor(scale * (v - margin))) for v in (box.x, box.y))
        right, bottom = (math.ceil(scale * (v + margin)) for v in (box.x + box.width, box.y + box.height))
        between[y:bottom, x:right] = 0
    low, high = (_blur_between(gray, between, sigma_px) for sigma_px in _SIGMAS_PX)
    return _Prepared((low - high) * between, gray, between > 0)


def _blur_between(gray: NDArray[np.uint8], between: FloatArray, sigma_px: float) -> FloatArray:
    """Blur a field as if its white cells were not there: their surroundings must not take after them."""
    weights = cv2.GaussianBlur(between, (0, 0), sigma_px)
    return np.asarray(cv2.GaussianBlur(gray * between, (0, 0), sigma_px) / np.maximum(weights, _MIN_WEIGHT), np.float32)


def _compare(first: _Prepared, second: _Prepared, candidate: Candidate) -> _Shift | None:
    """Measure a candidate on the fine images; None if both do not show the same place."""
    height, width = first.band.shape
    scale = max(width, height) / COARSE_PX
    shift = _search(first.band, second.band, round(candidate.dx * scale), round(candidate.dy * scale))
    if shift is None:
        return None
    one, other = cut_shared(first.band, second.band, *shift)
    limit = _MIN_CORRELATION_NARROW if one.size < _NARROW_SHARE * width * height else _MIN_CORRELATION
    compared = np.logical_and(*cut_shared(first.between, second.between, *shift))
    if _correlate(one[compared], other[compared]) < limit:
        return None
    # The frame is the same in all fields. It is looked for last because that takes longest.
    for image_area in cut_shared(_find_image_area(first), _find_image_area(second), *shift):
        compared &= image_area
    one, other = one[compared], other[compared]
    if not one.size or min(one.std(), other.std()) < _MIN_STD:
        return None
    correlation = _correlate(one, other)
    return _Shift(*shift, correlation) if correlation >= limit else None


def _find_image_area(field: _Prepared) -> NDArray[np.bool_]:
    """Return (H, W) bool, true inside the image of a field that may have a frame."""
    image_area = find_image_area(cv2.cvtColor(field.gray, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False))
    return np.ones(field.gray.shape, bool) if image_area is None else image_area


def _search(first: FloatArray, second: FloatArray, dx: int, dy: int) -> tuple[int, int] | None:
    """Return the shift around (dx, dy) at which two images correlate best; None if they share too little."""
    height, width = first.shape
    left, right = max(0, _SEARCH_PX - dx), min(width, width - _SEARCH_PX - dx)
    top, bottom = max(0, _SEARCH_PX - dy), min(height, height - _SEARCH_PX - dy)
    if right - left < _MIN_TEMPLATE_PX or bottom - top < _MIN_TEMPLATE_PX:
        return None
    searched = first[top + dy - _SEARCH_PX : bottom + dy + _SEARCH_PX, left + dx - _SEARCH_PX : right + dx + _SEARCH_PX]
    scores = cv2.matchTemplate(searched, second[top:bottom, left:right], cv2.TM_CCOEFF_NORMED)
    down, across = divmod(int(scores.argmax()), scores.shape[1])
    return dx + across - _SEARCH_PX, dy + down - _SEARCH_PX


def cut_shared(first: Image, second: Image, dx: int, dy: int) -> tuple[Image, Image]:
    """Return the views of two images of one size that show the same place if the second was moved by (dx, dy)."""
    height, width = first.shape
    left, right, top, bottom = max(0, -dx), min(width, width - dx), max(0, -dy), min(height, height - dy)
    return first[top + dy : bottom + dy, left + dx : right + dx], second[top:bottom, left:right]


def _correlate(one: FloatArray, other: FloatArray) -> float:
    """Return the normalized correlation of two images; 0 if one is of one gray level, or empty."""
    if not one.size:
        return 0.0
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else 0.0

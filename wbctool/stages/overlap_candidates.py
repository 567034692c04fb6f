"""Pairs of fields that may overlap, found on images of a few dozen pixels: nearly all pairs are ruled out here.

Two tests complement each other. The border of a field is looked for in the others: a motorized stage moves the camera
by most of a field, without turning it. And the surroundings of a white cell are compared with those of the others: that
finds fields that overlap in any other way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wbctool.types.arrays import FloatArray

COARSE_PX = 60  # the longer side of the images
_BACKGROUND_SIGMA_PX = 3.0  # what is larger, such as vignetting, says nothing of the place
_STRIP_PX = 2  # at the border of a field; the overlap of a stage is 5 % or more, 3 pixels
_MAX_DRIFT_PX = 4  # of neighboring fields across the direction in which the stage moved
_MAX_STAGE_OVERLAP = 0.45  # of a field's side
_CONTEXT_PX = 10  # around a white cell
_CANDIDATES = 3  # of each field in each direction, and of each cell
_MIN_CORRELATION = 0.65  # of strips and of surroundings; those of the same place reach 0.7 and more
_CELLS_AT_A_TIME = 8
_MAX_PRODUCT = 200_000  # multiplications; OpenBLAS starts threads for 262,144
_FIXED_POINT = 1024.0  # sums of whole numbers are exact, so that their order does not matter


@dataclass(frozen=True, slots=True)
class Candidate:
    """Two fields that may show the same place.

    Attributes:
        first: The index of the first field.
        second: The index of the second field.
        dx: What shows at (x, y) in the second field shows at (x + dx, y + dy) in the first, in pixels of the images.
        dy: The same down.
    """

    first: int
    second: int
    dx: int
    dy: int


def flatten_background(gray: NDArray[np.uint8]) -> FloatArray:
    """Remove from a small gray image, (H, W) uint8, what varies slowly; (H, W) float32."""
    image = gray.astype(np.float32)
    return np.asarray(image - cv2.GaussianBlur(image, (0, 0), _BACKGROUND_SIGMA_PX), np.float32)


def find_candidates(images: FloatArray, cells: Sequence[Sequence[tuple[float, float]]]) -> list[Candidate]:
    """Find the pairs of fields that may overlap.

    Args:
        images: (N, H, W) float32, the fields of one size, each of mean 0 over some pixels.
        cells: The centers (x, y) of each field's white cells, in pixels of the images.

    Returns:
        The candidates, without repetition, in order. A pair has several if it is not clear how far it was moved.
    """
    centers = [np.array(field, np.float32).reshape(-1, 2) for field in cells]
    across = _find_neighbors(images, [field[:, 0] for field in centers])
    down = _find_neighbors(images.transpose(0, 2, 1), [field[:, 1] for field in centers])
    found = {
        *(Candidate(a, b, far, drift) for a, b, far, drift in across),
        *(Candidate(a, b, drift, far) for a, b, far, drift in down),
        *_find_same_cells(images, centers),
    }
    ordered = {c if c.first < c.second else Candidate(c.second, c.first, -c.dx, -c.dy) for c in found}
    return sorted(ordered, key=lambda c: (c.first, c.second, c.dx, c.dy))


def _find_neighbors(images: FloatArray, cells: Sequence[FloatArray]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left field, right field, shift, drift) for fields whose left border shows in the right part of others."""
    _, height, width = images.shape
    begin = width - math.ceil(_MAX_STAGE_OVERLAP * width)
    if height <= 2 * _MAX_DRIFT_PX or begin >= width - _STRIP_PX:
        return
    lefts = np.flatnonzero([(xs >= begin).any() for xs in cells])  # without a white cell there, none is shared
    rights = np.flatnonzero([(xs < width - begin).any() for xs in cells])
    if not len(lefts) or not len(rights):
        return
    strips = images[rights, _MAX_DRIFT_PX : height - _MAX_DRIFT_PX, :_STRIP_PX]
    templates = _normalize(strips.reshape(len(rights), -1))
    for left in lefts.tolist():
        windows = sliding_window_view(images[left, :, begin:], (height - 2 * _MAX_DRIFT_PX, _STRIP_PX))
        _, n_shifts = windows.shape[:2]
        scores = _multiply(templates, _normalize(windows.reshape(-1, templates.shape[1])))
        best, places = scores.max(axis=1), scores.argmax(axis=1)
        best[rights == left] = 0
        for index in _rank(best):
            drift, shift = divmod(int(places[index]), n_shifts)
            yield left, int(rights[index]), begin + shift, drift - _MAX_DRIFT_PX


def _find_same_cells(images: FloatArray, cells: Sequence[FloatArray]) -> Iterator[Candidate]:
    """Yield the fields in which a white cell has the same surroundings."""
    fields = np.repeat(np.arange(len(cells)), [len(field) for field in cells])
    last_pixel = images.shape[2] - 1, images.shape[1] - 1
    centers = np.minimum(np.concatenate(cells).round().astype(int), last_pixel)
    side = 2 * _CONTEXT_PX + 1
    padded = np.pad(images, ((0, 0), (_CONTEXT_PX, _CONTEXT_PX), (_CONTEXT_PX, _CONTEXT_PX)))
    patches = np.stack([padded[f, y : y + side, x : x + side] for f, (x, y) in zip(fields, centers, strict=True)])
    patches = _normalize(patches.reshape(len(fields), -1))
    for begin in range(0, len(patches), _CELLS_AT_A_TIME):
        scores = _multiply(patches, patches[begin : begin + _CELLS_AT_A_TIME])
        for cell, column in enumerate(scores.T, start=begin):
            earlier = np.where(fields[:cell] == fields[cell], 0, column[:cell])
            for other in _rank(earlier):
                dx, dy = (centers[other] - centers[cell]).tolist()
                yield Candidate(int(fields[other]), int(fields[cell]), dx, dy)


def _multiply(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the products of the rows of two matrices, (N, M), in parts that are too small for several threads.

    The threads of a matrix product wait for each other; on a busy machine that takes ten times as long.
    """
    step = max(1, _MAX_PRODUCT // other.size)
    return np.concatenate([one[i : i + step] @ other.T for i in range(0, len(one), step)])


def _normalize(vectors: FloatArray) -> FloatArray:
    """Give each row of (N, D) mean 0 and the same norm, in whole numbers."""
    centered = vectors - vectors.mean(axis=1, keepdims=True)
    norms = np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1.0)
    return np.asarray(np.rint(centered * (_FIXED_POINT / norms)), np.float32)


def _rank(scores: FloatArray) -> list[int]:
    """Return the indices of the highest scores that are high enough, the highest first."""
    n_kept = min(_CANDIDATES, len(scores))
    if not n_kept:
        return []
    highest = np.argpartition(-scores, n_kept - 1)[:n_kept]
    kept = [index for index in highest.tolist() if scores[index] > _MIN_CORRELATION * _FIXED_POINT**2]
    return sorted(kept, key=lambda index: (-scores[index], index))

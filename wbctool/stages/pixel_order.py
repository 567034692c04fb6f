"""Whether the pixels of an image lie in their order: rows, planes, tiles and the width as they were photographed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale

_MIN_LIGHT = 0.12  # of the brightness; what is darker is a black frame
_MIN_SIDE_PX = 64  # a smaller image is not judged
_MAX_SIDE_PX = 400  # the middle of the image is judged, at its native scale
_MAX_MOSAIC = 6.0  # gray levels between every other pixel, on average; photographs reach 2
_LAG_PX = 16  # farther apart, pixels are as good as independent
_MIN_CONTRAST = 0.035  # of the brightness; below, the image may be glass and noise
_MAX_ROUGHNESS = 0.55  # neighbors differ by as large a share of what distant pixels do; photographs reach 0.3
_MAX_ANISOTROPY = 2.8  # rows differ more than columns do, or less; photographs reach 1.4
_MAX_SEAM = 3.0  # the difference of neighbors at a seam of tiles or strips, in multiples of the median
_MIN_SEAM_CONTRAST = 0.35  # and as a share of what distant pixels differ; JPEG's blocks reach less
_MIN_SEAMS, _MIN_SEAM_SHARE = 3, 0.7  # of the places of the period; single edges of cells lie anywhere
_MAX_SEAM_PERIOD_PX = 256
_MIN_EDGE_STD = 4.0  # gray levels; edges of glass alone tell nothing
_MAX_EDGE_DIFFERENCE = 0.3  # squared, of the end of a row and the beginning of the next; of the edge's variance
_MIN_LIT_EDGE_SHARE = 0.5  # of the rows, of those that begin and end in the picture and not in a black frame
# The correlation of the gradients along rows and columns; photographs reach 0.2, sheared ones have 0.4.
_MAX_SHEAR = 0.35
_TILE_STEP_PX = 16  # by the TIFF standard, the sides of a tile are multiples of it
_MAX_REPETITION = 0.7  # the correlation of two parts of the image
_MIN_DETAIL = 3.0  # gray levels
_DETAIL_PX = (31, 31)  # what is larger than this, in the reduced image, may be the lamp

_FROZEN_SAMPLES = 40  # pixels of each row are compared before all are
_MAX_FROZEN_SHARE, _MIN_CHANGES_SHARE = 0.12, 0.25  # of the rows; of the neighbors in a row, which differ in a smear

_SCRAMBLED = (
    "the pixels are in disorder ({}), so the file does not say rightly how they are stored; save the image again as an "
    "8-bit RGB PNG or uncompressed TIFF"
)

_FROZEN = (
    "one {line} is repeated {count} times, as if the camera had stopped or a border had been filled; photograph or "
    "export it again"
)


@dataclass(frozen=True, slots=True)
class _Seams:
    """Where neighbors differ much along one axis.

    Attributes:
        period_px: The smallest distance of two seams; the image's side if there is one seam, 0 if there is none.
        is_regular: Whether there are seams at nearly all multiples of it.
    """

    period_px: int
    is_regular: bool


def find_disorder(rgb: NDArray[np.uint8], reduced: NDArray[np.uint8], smear: NDArray[np.bool_]) -> str | None:
    """Find out whether an image is scrambled.

    Args:
        rgb: The image, (H, W, 3) uint8 RGB.
        reduced: The same, reduced.
        smear: True where the reduced image shows the smear, and no frame.

    Returns:
        What is wrong and what to do; None if nothing is.
    """
    symptom = (
        _find_mosaic(rgb) or _find_broken_neighborhood(rgb) or _find_shear(rgb) or _find_repetition(reduced, smear)
    )
    return _find_frozen_rows(rgb) if symptom is None else _SCRAMBLED.format(symptom)


def _find_mosaic(rgb: NDArray[np.uint8]) -> str | None:
    """Return how every other pixel is of another color, as in a camera's raw picture."""
    middle = _middle(rgb)
    if min(middle.shape[:2]) < _MIN_SIDE_PX:
        return None
    phases = [middle[row::2, column::2] for row in (0, 1) for column in (0, 1)]
    # Lines change their means alone, and few levels of brightness, as of a palette, their medians.
    of_medians, of_means = (
        np.ptp([average(phase, axis=(0, 1)) for phase in phases], axis=0) for average in (np.median, np.mean)
    )
    if float(np.minimum(of_medians, of_means).max()) <= _MAX_MOSAIC:
        return None
    return "every other pixel is of another color, as in a camera's raw picture"


def _find_broken_neighborhood(rgb: NDArray[np.uint8]) -> str | None:
    """Return how the neighbors of a pixel differ from it as only distant ones do."""
    green = np.ascontiguousarray(_middle(rgb)[..., 1])
    if min(green.shape) < _MIN_SIDE_PX:
        return None
    brightness = float(np.quantile(green[::4, ::4], 0.98))
    if not brightness:
        return None
    mask = (green > _MIN_LIGHT * brightness).astype(np.uint8)
    contrast = max(_mean_difference(green, mask, axis, _LAG_PX) for axis in (0, 1))
    if contrast < _MIN_CONTRAST * brightness:
        return None
    row_profile, column_profile = (_difference_profile(green, mask, axis) for axis in (0, 1))
    rows, columns = (float(np.nanmean(profile)) for profile in (row_profile, column_profile))
    if max(rows, columns) > _MAX_ROUGHNESS * contrast and _is_rough(downscale(green, *_halve(green))):
        return "neighboring pixels have nothing in common"
    if max(rows, columns) > _MAX_ANISOTROPY * min(rows, columns):
        return "neighboring rows have little in common"
    row_seams, column_seams = (
        _find_seams(profile, _MIN_SEAM_CONTRAST * contrast) for profile in (row_profile, column_profile)
    )
    if (row_seams.is_regular or column_seams.is_regular) and not _are_of_photographs(row_seams, column_seams):
        return "it falls into tiles or strips that do not fit each other"
    return None


def _halve(gray: NDArray[np.uint8]) -> tuple[int, int]:
    """Return half the width and height of an image."""
    return gray.shape[1] // 2, gray.shape[0] // 2


def _is_rough(half: NDArray[np.uint8]) -> bool:
    """Return whether an image reduced by two, with half the camera's noise, is as rough as one in disorder."""
    everywhere = np.ones_like(half)
    roughness, contrast = (
        max(_mean_difference(half, everywhere, axis, lag) for axis in (0, 1)) for lag in (1, _LAG_PX // 2)
    )
    return roughness > _MAX_ROUGHNESS * contrast


def _find_shear(rgb: NDArray[np.uint8]) -> str | None:
    """Return how each row lies farther to one side than the row above, as in an image read with a width that is wrong.

    Such a row goes on at the beginning of the next one, and its cells are sheared. A lens or a moving stage may smear
    cells to one side, but does not continue rows.
    """
    if min(rgb.shape[:2]) < _MIN_SIDE_PX:
        return None
    ends, beginnings = rgb[:-1, -1, 1].astype(np.float32), rgb[1:, 0, 1].astype(np.float32)
    limit = _MIN_LIGHT * float(rgb[::8, ::8, 1].max())
    lit = np.minimum(ends, beginnings) > limit  # not of a frame
    variance = float(ends[lit].var()) if lit.mean() > _MIN_LIT_EDGE_SHARE else 0.0
    difference = float(((ends - beginnings)[lit] ** 2).mean()) if variance else 0.0
    if variance < _MIN_EDGE_STD**2 or difference > _MAX_EDGE_DIFFERENCE * variance:
        return None
    green = np.ascontiguousarray(_middle(rgb)[..., 1])
    green = downscale(green, *_halve(green))  # against noise
    inside = cv2.erode((green > limit).astype(np.float32), np.ones((5, 5), np.uint8))
    across, down = (cv2.Sobel(green, cv2.CV_32F, 1 - axis, axis) * inside for axis in (0, 1))
    norm = float(np.linalg.norm(across) * np.linalg.norm(down))
    is_sheared = abs(float((across * down).sum())) > _MAX_SHEAR * norm
    return "each row is shifted against the row above" if is_sheared else None


def _find_repetition(reduced: NDArray[np.uint8], smear: NDArray[np.bool_]) -> str | None:
    """Return how often an image shows the same picture, side by side or one above the other."""
    gray = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Without the blurred edge of a black border, which is alike all along it.
    lit = smear & (gray > _MIN_LIGHT * gray.max())
    mask = cv2.erode(lit.astype(np.float32), np.ones((3, 3), np.uint8))
    surroundings = cv2.blur(gray * mask, _DETAIL_PX) / np.maximum(cv2.blur(mask, _DETAIL_PX), 1e-6)
    detail = (gray - surroundings) * mask
    for axis in (0, 1):
        for count in (2, 3):
            size = gray.shape[axis] // count
            if size < _LAG_PX:
                continue
            first, second = (_without_lines(np.take(detail, range(i * size, (i + 1) * size), axis)) for i in (0, 1))
            norms = float(np.linalg.norm(first)), float(np.linalg.norm(second))
            if min(norms) < _MIN_DETAIL * first.size**0.5:
                continue
            if float((first * second).sum()) > _MAX_REPETITION * norms[0] * norms[1]:
                return f"it shows the same picture {'twice' if count == 2 else 'three times'}"
    return None


def _find_frozen_rows(rgb: NDArray[np.uint8]) -> str | None:
    """Complain about one row or column that is repeated, as by a camera that stopped; a bar has few colors."""
    for name, image in (("row", rgb), ("column", rgb.transpose(1, 0, 2))):
        step = max(1, int(_MAX_FROZEN_SHARE * len(image)))  # a repetition that is long enough has one of these rows
        if not (image[1::step] == image[:-1:step]).all(axis=(1, 2)).any():  # as in most fields
            continue
        sampled = image[:, :: max(1, image.shape[1] // _FROZEN_SAMPLES)]
        is_same = (sampled[1:] == sampled[:-1]).all(axis=(1, 2))
        edges = np.flatnonzero(np.diff(is_same.astype(np.int8), prepend=0, append=0))
        starts, lengths = edges[::2], edges[1::2] - edges[::2]
        start, length = int(starts[lengths.argmax()]), int(lengths.max())
        if length <= _MAX_FROZEN_SHARE * len(image):
            continue
        row = image[start]
        n_changes = int((row[1:] != row[:-1]).any(axis=1).sum())
        if n_changes > _MIN_CHANGES_SHARE * len(row) and (image[start : start + length + 1] == row).all():
            return _FROZEN.format(line=name, count=length)
    return None


def _without_lines(detail: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove what a part of an image shows of flicker and reticles: bands and lines along its rows and columns."""
    rows, columns = detail.mean(axis=1, keepdims=True), detail.mean(axis=0, keepdims=True)
    return np.asarray(detail - rows - columns + detail.mean())


def _middle(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of a large image."""
    top, left = (max(0, (side - _MAX_SIDE_PX) // 2) for side in rgb.shape[:2])
    return rgb[top : top + _MAX_SIDE_PX, left : left + _MAX_SIDE_PX]


def _pairs(array: NDArray[np.uint8], axis: int, lag: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the pixels and those ``lag`` further on."""
    return (array[:-lag], array[lag:]) if axis == 0 else (array[:, :-lag], array[:, lag:])


def _mean_difference(green: NDArray[np.uint8], mask: NDArray[np.uint8], axis: int, lag: int) -> float:
    """Return the mean difference of pixels at a distance along an axis, both in the mask."""
    return float(cv2.mean(cv2.absdiff(*_pairs(green, axis, lag)), cv2.bitwise_and(*_pairs(mask, axis, lag)))[0])


def _difference_profile(green: NDArray[np.uint8], mask: NDArray[np.uint8], axis: int) -> NDArray[np.float32]:
    """Return the mean difference of neighbors along an axis, for each place on it; NaN at a place outside the mask."""
    both = cv2.bitwise_and(*_pairs(mask, axis, 1))
    difference = cv2.absdiff(*_pairs(green, axis, 1)) * both
    sums, counts = (cv2.reduce(a, 1 - axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F).ravel() for a in (difference, both))
    return np.where(counts >= green.shape[1 - axis] / 4, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def _find_seams(profile: NDArray[np.float32], min_difference: float) -> _Seams:
    """Find where neighbors differ much, as at the borders of tiles that were exchanged."""
    limit = max(_MAX_SEAM * float(np.nanmedian(profile)), min_difference)
    places = np.flatnonzero(profile > limit)
    if len(places) < 2:
        return _Seams(len(places) * len(profile), False)
    distances = np.diff(places)
    period = int(distances.min())
    is_regular = (
        len(places) >= _MIN_SEAMS
        and 1 < period <= _MAX_SEAM_PERIOD_PX
        and bool((distances % period == 0).all())
        and len(places) > _MIN_SEAM_SHARE * (len(profile) // period)
    )
    return _Seams(period, is_regular)


def _are_of_photographs(rows: _Seams, columns: _Seams) -> bool:
    """Return whether seams are those of photographs put side by side: in both directions, unlike a TIFF's strips."""
    is_square_tile = rows.period_px == columns.period_px and rows.period_px % _TILE_STEP_PX == 0
    return rows.period_px > 0 and columns.period_px > 0 and not is_square_tile

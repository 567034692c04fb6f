"""Quality of a field: focus, crowding, duplicates, and colors compared with those of the training data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.frame import find_image_area
from wbctool.imaging.resize import downscale
from wbctool.inference.color_range import ColorRange
from wbctool.limits import Limits
from wbctool.stages.duplicates import find_duplicates, make_thumbnail
from wbctool.stages.focus import estimate_blur_px
from wbctool.types.cells import RED_CELL_UM, Box, Detection, Field, ObjectClass
from wbctool.types.differential import Flag
from wbctool.types.slides import CieLab, FieldColors, FieldQuality

_MIN_RED_CELL_UM, _MAX_RED_CELL_UM = 4.5, 12.0  # no anemia gives a field a median outside this range
_SAMPLING_STEP = 16  # medians are taken of every 16th pixel: sorting all takes longer than all the rest
_ANALYSIS_LONG_SIDE_PX = 256  # the longer side of the image from which colors and crowding are measured
_MIN_RED_CELL_PX = 6.0  # in that image; in a smaller one cells and background of a stitched field would be one color
_MAX_LONG_SIDE_PX = 2560  # of a field that is analyzed at the usual size whatever its cells, and of that image
_BACKGROUND_QUANTILE = 0.98  # the quantile of the green channel that is taken as background
_MIN_FIELDS = 5  # in a slide with fewer fields the median says too little


def measure_quality(
    field: Field, detections: Sequence[Detection], stain_ranges: Collection[ColorRange], um_per_px: float | None = None
) -> FieldQuality:
    """Measure the quality of a field, without applying any limit.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        detections: The field's nucleated and red cells.
        stain_ranges: The colors of the laboratories that the models know.
        um_per_px: The side of a pixel in µm of smear; None to take the field's own red cells as the scale.

    Returns:
        The measured quality.
    """
    red_cell_px = _median_red_cell_px(detections)
    effective_um_per_px = um_per_px or (RED_CELL_UM / red_cell_px if red_cell_px else None)
    blur_px = (
        None
        if effective_um_per_px is None
        else estimate_blur_px(field, [d.box for d in detections], effective_um_per_px)
    )
    small = _downscale(field, detections)
    colors = _median_colors(small)
    return FieldQuality(
        field=field.name,
        blur_um=None if blur_px is None or effective_um_per_px is None else blur_px * effective_um_per_px,
        blur_px=blur_px,
        coverage=_measure_coverage(small),
        background_color=colors.background,
        cell_color=colors.cells,
        stain_delta_e=color_distance(colors, stain_ranges),
        um_per_px=um_per_px,
        red_cells=len(_whole_red_cells(detections)),
        red_cell_px=red_cell_px,
        red_cell_um=um_per_px * red_cell_px if um_per_px and red_cell_px else None,
        thumbnail=make_thumbnail(small.rgb, small.image_area).tobytes()
        if any(d.object_class is ObjectClass.NUCLEATED for d in detections)
        else b"",
    )


def measure_coverage(field: Field, detections: Sequence[Detection]) -> float | None:
    """Measure only the share of a field that red cells cover, as :func:`measure_quality` does.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        detections: The field's nucleated and red cells.

    Returns:
        The share, in [0, 1]; None without a red cell.
    """
    return _measure_coverage(_downscale(field, detections))


def measure_colors(field: Field, detections: Sequence[Detection]) -> FieldColors:
    """Measure only the colors of a field, as :func:`measure_quality` does.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        detections: The field's nucleated and red cells.
    """
    return _median_colors(_downscale(field, detections))


def apply_quality_limits(fields: Sequence[FieldQuality], limits: Limits) -> tuple[FieldQuality, ...]:
    """Apply the limits to the fields of one slide.

    Focus is also compared with the slide's own median, and fields are compared with each other. Focus is not judged if
    the red cells show that ``um_per_px`` is wrong.

    Args:
        fields: The measured quality of the slide's fields, in order.
        limits: The slide's limits.

    Returns:
        The fields with their marks (blurred, crowded, ...), in order.
    """
    fields = [replace(f, scale_mismatch=_is_implausible(f.red_cell_um)) for f in fields]
    duplicate_of = find_duplicates(fields, limits.duplicate_correlation)
    blurs_um = [f.blur_um for f in fields if f.blur_um is not None]
    relative_limit_um = (
        limits.max_relative_blur * float(np.median(blurs_um)) if len(blurs_um) >= _MIN_FIELDS else np.inf
    )
    limit_um = min(limits.max_blur_um, relative_limit_um)
    return tuple(
        replace(
            f,
            blurred=not f.scale_mismatch
            and f.blur_um is not None
            and f.blur_px is not None
            and f.blur_um > limit_um
            and f.blur_px > limits.min_blur_px,
            crowded=f.coverage is not None and f.coverage > limits.max_coverage,
            stain_out_of_range=f.stain_delta_e is not None and f.stain_delta_e > limits.max_stain_delta_e,
            duplicate_of=duplicate_of.get(f.field, ""),
            thumbnail=b"",
        )
        for f in fields
    )


def _is_implausible(red_cell_um: float | None) -> bool:
    """Return whether no red cell can have this diameter."""
    return red_cell_um is not None and not _MIN_RED_CELL_UM < red_cell_um < _MAX_RED_CELL_UM


def compute_quality_flags(fields: Sequence[FieldQuality], limits: Limits) -> set[Flag]:
    """Return the flags that a slide's fields raise, once the limits were applied to them."""
    flags: set[Flag] = set()
    if sum(f.blurred for f in fields) > limits.blurred_share * len(fields):
        flags.add(Flag.BLURRED_FIELDS)
    if sum(f.crowded for f in fields) > limits.crowded_share * len(fields):
        flags.add(Flag.CROWDED_FIELDS)
    if any(f.duplicate_of for f in fields):
        flags.add(Flag.DUPLICATE_FIELDS)
    if any(f.counted_elsewhere for f in fields):
        flags.add(Flag.OVERLAPPING_FIELDS)
    return flags


def red_cell_coverage(
    green: NDArray[np.uint8],
    red_mask: NDArray[np.bool_],
    nucleated_mask: NDArray[np.bool_],
    image_area: NDArray[np.bool_] | None = None,
) -> float | None:
    """Measure the share of a field that absorbs at least half as much light as a red cell.

    Absorbance is used instead of boxes because the detector misses cells that overlap.

    Args:
        green: (H, W) uint8, the green channel.
        red_mask: (H, W) bool, the detected red cells.
        nucleated_mask: (H, W) bool, the detected nucleated cells, which are left out.
        image_area: (H, W) bool, the image inside a frame, which is left out too; None if there is no frame.

    Returns:
        The share, in [0, 1]; None without a red cell.
    """
    if not red_mask.any():
        return None
    excluded = cv2.dilate(nucleated_mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    sampled = green[::4, ::4]
    if image_area is not None:
        excluded |= ~image_area
        sampled = sampled[image_area[::4, ::4]]
    rest = green[~excluded]
    # Absorbance is log(background / green): half a red cell's at the geometric mean of background and red cell.
    background_green, red_cell_green = (
        np.quantile(sampled, _BACKGROUND_QUANTILE) + 1,
        np.median(green[red_mask][::_SAMPLING_STEP]) + 1,
    )
    return float((rest + 1.0 < np.sqrt(background_green * red_cell_green)).mean()) if rest.size else None


def color_distance(colors: FieldColors, ranges: Collection[ColorRange]) -> float | None:
    """Measure how far a field's colors lie outside those of the laboratory that they fit best.

    Args:
        colors: The field's colors.
        ranges: The colors of the laboratories that the models know.

    Returns:
        The color difference ΔE (CIE76), the larger of background and cells; None if the field has no background, or
        no laboratory's colors are known. About 2 is just visible.
    """
    if not ranges or colors.background is None:
        return None
    return min(
        max(
            _distance_outside(colors.background, r.background_low, r.background_high),
            0.0 if colors.cells is None else _distance_outside(colors.cells, r.cells_low, r.cells_high),
        )
        for r in ranges
    )


@dataclass(frozen=True, slots=True)
class _SmallField:
    """A field at the scale for colors and crowding.

    Attributes:
        rgb: (h, w, 3) uint8 RGB.
        red_mask: (h, w) bool, the red cells.
        nucleated_mask: (h, w) bool, the nucleated cells.
        image_area: (h, w) bool, the image inside a frame; None if there is no frame.
    """

    rgb: NDArray[np.uint8]
    red_mask: NDArray[np.bool_]
    nucleated_mask: NDArray[np.bool_]
    image_area: NDArray[np.bool_] | None


def _downscale(field: Field, detections: Sequence[Detection]) -> _SmallField:
    """Return a field at the scale for colors and crowding."""
    red_cell_px = _median_red_cell_px(detections)
    height, width = field.rgb.shape[:2]
    long_side_px = max(height, width)
    scale = min(1.0, _ANALYSIS_LONG_SIDE_PX / long_side_px)
    if red_cell_px is not None and long_side_px > _MAX_LONG_SIDE_PX:
        scale = max(scale, min(_MIN_RED_CELL_PX / red_cell_px, _MAX_LONG_SIDE_PX / long_side_px))
    rgb = downscale(field.rgb, max(1, round(width * scale)), max(1, round(height * scale)))
    red_mask, nucleated_mask = (
        _ellipse_mask([d.box for d in detections if d.object_class is kind], rgb.shape, scale)
        for kind in (ObjectClass.RED_CELL, ObjectClass.NUCLEATED)
    )
    return _SmallField(rgb, red_mask, nucleated_mask, find_image_area(rgb))


def _measure_coverage(small: _SmallField) -> float | None:
    """Return the share that red cells cover."""
    red_mask = small.red_mask & ~small.nucleated_mask
    if small.image_area is not None:
        red_mask &= small.image_area
    return red_cell_coverage(small.rgb[..., 1], red_mask, small.nucleated_mask, small.image_area)


def _median_colors(small: _SmallField) -> FieldColors:
    """Return the colors of background and nucleated cells."""
    background_mask = ~(small.red_mask | small.nucleated_mask)
    if small.image_area is not None:
        background_mask &= small.image_area
    return FieldColors(
        background=_median_lab(small.rgb, background_mask, _SAMPLING_STEP),
        cells=_median_lab(small.rgb, small.nucleated_mask),
    )


def _whole_red_cells(detections: Sequence[Detection]) -> list[Detection]:
    """Return the red cells that the border does not cut."""
    return [d for d in detections if d.object_class is ObjectClass.RED_CELL and not d.cut_by_border]


def _median_red_cell_px(detections: Sequence[Detection]) -> float | None:
    """Return the median diameter of the whole red cells in native pixels; None without one."""
    diameters_px = [red_cell.box.diameter_px for red_cell in _whole_red_cells(detections)]
    return float(np.median(diameters_px)) if diameters_px else None


def _ellipse_mask(boxes: Sequence[Box], shape: tuple[int, ...], scale: float) -> NDArray[np.bool_]:
    """Return a mask of cells, (H, W) bool, as ellipses in their boxes."""
    mask = np.zeros(shape[:2], np.uint8)
    for box in boxes:
        center = round(box.center[0] * scale), round(box.center[1] * scale)
        cv2.ellipse(mask, center, (round(box.width * scale / 2), round(box.height * scale / 2)), 0, 0, 360, 1, -1)
    return mask > 0


def _median_lab(rgb: NDArray[np.uint8], pixel_mask: NDArray[np.bool_], step: int = 1) -> CieLab | None:
    """Return the median CIELAB color of every ``step``-th pixel in a mask; None if it is empty."""
    indices = np.flatnonzero(pixel_mask)[::step]
    if not len(indices):
        return None
    lab = cv2.cvtColor(rgb.reshape(-1, 3)[indices][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness, a, b = np.median(lab, axis=0).tolist()
    return lightness, a, b


def _distance_outside(color: CieLab, low: CieLab, high: CieLab) -> float:
    """Return the distance of a color from the box between two colors; 0 inside it."""
    excess = np.maximum(np.maximum(np.subtract(low, color), np.subtract(color, high)), 0)
    return float(np.linalg.norm(excess))

"""Quality of a field: focus, crowding, and colors compared with those of the training data. Nothing is learned.

Focus is the width of the cells' sharpest edges, after Zhuo and Sim 2011 (Pattern Recognition 44:1852, doi
10.1016/j.patcog.2011.03.009). Blurring an edge of Gaussian width s once more by s0 lowers its gradient by the ratio
r = sqrt(s² + s0²) / s, so s = s0 / sqrt(r² - 1). The sharpness measures that Pertuz et al. 2013 compare (doi
10.1016/j.patcog.2012.11.011; variance of the Laplacian among them) need a second image of the same place; this width
does not, and it has a unit. With red cells of 7.5 µm as the scale it is µm of smear, for any camera and field. The lens
alone gives about 0.21 λ/NA, 0.09 µm for an oil immersion objective.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale
from wbctool.inference.model_card import ColorRange
from wbctool.settings import Limits
from wbctool.types.cells import Box, Detection, Field, ObjectClass
from wbctool.types.slides import CieLab, FieldQuality

RED_CELL_UM = 7.5  # the mean diameter of a red cell in a dried smear
_MIN_RED_CELL_UM, _MAX_RED_CELL_UM = 4.5, 12.0  # no anemia gives a field a median outside this range
_RED_CELL_PX = 130  # the scale at which edges are measured; a coarser one blurs them more than a lens does
_MAX_PATCH_PX = 800  # at that scale: 46 µm, more than any cell measures
_MAX_CELLS = 8  # all cells give the same width within about 7 %, in three times the time
_EDGE_FRACTION = 0.05  # the share of the cells' pixels that counts as edges
_SAMPLING_STEP = 16  # quantiles are taken of every 16th pixel: sorting all takes longer than all the rest
_EXTRA_BLUR_PX, _LARGE_BLUR_PX, _WIDE_EDGE_PX = 1.0, 3.0, 3.3
_MARGIN = 0.15  # around a cell's box, which holds the outer half of a blurred edge
_ANALYSIS_LONG_SIDE_PX = 256  # the longer side of the image from which colors and crowding are measured
_BACKGROUND_QUANTILE = 0.98  # the quantile of the green channel that is taken as background
_THUMBNAIL_PX = 16
_MIN_FIELDS = 5  # in a slide with fewer fields the median says too little

FloatArray = NDArray[np.float32]
GrayImage = NDArray[np.uint8]


def measure_quality(
    field: Field, detections: Sequence[Detection], stain_ranges: Collection[ColorRange], um_per_px: float | None = None
) -> FieldQuality:
    """Measure the quality of a field, without applying any limit.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        detections: The field's nucleated and red cells.
        stain_ranges: The colors of the training data, by dataset.
        um_per_px: The side of a pixel in µm of smear; None to take the field's own red cells as the scale.

    Returns:
        The measured quality.
    """
    cells = [d for d in detections if d.object_class is not ObjectClass.PLATELET]
    estimated_um_per_px = _estimate_um_per_px(cells)
    effective_um_per_px = um_per_px or estimated_um_per_px
    blur_px = (
        None if effective_um_per_px is None else estimate_blur_px(field, [d.box for d in cells], effective_um_per_px)
    )
    downscaled, scale = _downscale(field)
    red_mask = _ellipse_mask([d.box for d in cells if d.object_class is ObjectClass.RED_CELL], downscaled.shape, scale)
    nucleated_mask = _ellipse_mask(
        [d.box for d in cells if d.object_class is ObjectClass.NUCLEATED], downscaled.shape, scale
    )
    background_color, cell_color = (
        _median_lab(downscaled, ~(red_mask | nucleated_mask), _SAMPLING_STEP),
        _median_lab(downscaled, nucleated_mask),
    )
    return FieldQuality(
        field=field.name,
        blur_um=None if blur_px is None or effective_um_per_px is None else blur_px * effective_um_per_px,
        blur_px=blur_px,
        coverage=red_cell_coverage(downscaled[..., 1], red_mask & ~nucleated_mask, nucleated_mask),
        background_color=background_color,
        cell_color=cell_color,
        stain_delta_e=color_distance(background_color, cell_color, stain_ranges),
        red_cell_um=RED_CELL_UM * um_per_px / estimated_um_per_px if um_per_px and estimated_um_per_px else None,
        thumbnail=make_thumbnail(downscaled).tobytes()
        if any(d.object_class is ObjectClass.NUCLEATED for d in cells)
        else b"",
    )


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


def compute_quality_flags(fields: Sequence[FieldQuality], limits: Limits) -> set[str]:
    """Return the flags that a slide's fields raise, once the limits were applied to them."""
    flags = set()
    if sum(f.blurred for f in fields) > limits.blurred_share * len(fields):
        flags.add("blurred_fields")
    if sum(f.crowded for f in fields) > limits.crowded_share * len(fields):
        flags.add("crowded_fields")
    if any(f.duplicate_of for f in fields):
        flags.add("duplicate_fields")
    return flags


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


def red_cell_coverage(
    green: NDArray[np.uint8], red_mask: NDArray[np.bool_], nucleated_mask: NDArray[np.bool_]
) -> float | None:
    """Measure the share of a field that absorbs at least half as much light as a red cell.

    Absorbance is used instead of boxes because the detector misses cells that overlap.

    Args:
        green: (H, W) uint8, the green channel.
        red_mask: (H, W) bool, the detected red cells.
        nucleated_mask: (H, W) bool, the detected nucleated cells, which are left out.

    Returns:
        The share, in [0, 1]; None without a red cell.
    """
    if not red_mask.any():
        return None
    excluded = cv2.dilate(nucleated_mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    rest = green[~excluded]
    # Absorbance is log(background / green): half a red cell's at the geometric mean of background and red cell.
    background_green, red_cell_green = (
        np.quantile(green[::4, ::4], _BACKGROUND_QUANTILE) + 1,
        np.median(green[red_mask][::_SAMPLING_STEP]) + 1,
    )
    return float((rest + 1.0 < np.sqrt(background_green * red_cell_green)).mean()) if rest.size else None


def color_distance(
    background_color: CieLab | None, cell_color: CieLab | None, ranges: Collection[ColorRange]
) -> float | None:
    """Measure how far a field's colors lie outside those of the training dataset that they fit best.

    Args:
        background_color: CIELAB of the background; None if there is none.
        cell_color: CIELAB of the nucleated cells; None without any.
        ranges: The colors of the training data, by dataset.

    Returns:
        The color difference ΔE (CIE76), the larger of background and cells; None if the colors of the training data are
        not known. About 2 is just visible.
    """
    if not ranges or background_color is None:
        return None
    return min(
        max(
            _distance_outside(background_color, r.background_low, r.background_high),
            0.0 if cell_color is None else _distance_outside(cell_color, r.cells_low, r.cells_high),
        )
        for r in ranges
    )


def make_thumbnail(rgb: NDArray[np.uint8]) -> FloatArray:
    """Make the thumbnail by which :func:`find_duplicates` compares fields.

    Args:
        rgb: (H, W, 3) uint8 RGB, a field of any scale.

    Returns:
        (256,) float32 of mean 0 and Euclidean norm 1; zeros for a field of one gray level.
    """
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = downscale(gray.astype(np.uint8, copy=False), _THUMBNAIL_PX, _THUMBNAIL_PX).astype(np.float32).ravel()
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def find_duplicates(fields: Sequence[FieldQuality], correlation: float) -> dict[str, str]:
    """Find fields that were photographed or saved twice.

    Args:
        fields: The measured quality of a slide's fields, in order.
        correlation: Two thumbnails that correlate more show the same cells.

    Returns:
        For each duplicate field, the name of the first field with the same content.
    """
    with_cells = [f for f in fields if f.thumbnail]
    if not with_cells:
        return {}
    thumbnails = np.stack([np.frombuffer(f.thumbnail, np.float32) for f in with_cells])
    duplicate_of = {}
    for index, row in enumerate(thumbnails):
        is_duplicate = thumbnails[:index] @ row > correlation
        if is_duplicate.any():
            duplicate_of[with_cells[index].field] = with_cells[int(is_duplicate.argmax())].field
    return duplicate_of


def _estimate_um_per_px(cells: Sequence[Detection]) -> float | None:
    """Estimate the side of a pixel in µm from the median size of the whole red cells."""
    sides = [
        (d.box.width * d.box.height) ** 0.5
        for d in cells
        if d.object_class is ObjectClass.RED_CELL and not d.cut_by_border
    ]
    return RED_CELL_UM / float(np.median(sides)) if sides else None


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


def _downscale(field: Field) -> tuple[NDArray[np.uint8], float]:
    """Return a field at the scale for colors and crowding, and that scale."""
    height, width = field.rgb.shape[:2]
    scale = min(1.0, _ANALYSIS_LONG_SIDE_PX / max(height, width))
    return downscale(field.rgb, max(1, round(width * scale)), max(1, round(height * scale))), scale


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

"""The diameter of cells in µm: by the laboratory's scale or, without one, with the red cells as the ruler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wbctool.types.cells import RED_CELL_UM, Cell, Detection
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import FieldQuality

_MIN_RED_CELLS = 20  # if diameters spread by 10 %, the median of so many is known to about 3 %
_MAX_SPREAD = 1.5  # of a slide's red cells, 10th to 90th percentile; above, its fields differ in magnification


def add_diameters(
    cells: Sequence[Cell], fields: Sequence[FieldQuality], scan: ScanSummary | None = None
) -> tuple[Cell, ...]:
    """Give the cells of a slide their diameters.

    Args:
        cells: The cells, with boxes in native pixels; of a scan in those of level 0.
        fields: The quality of the slide's fields, with the limits applied.
        scan: What was done with the scan; None for a folder of images.

    Returns:
        The cells. The diameter of one that the border cuts, or whose field has no scale, is None.
    """
    scales = find_scales(fields, scan)
    return tuple(replace(cell, diameter_um=_measure(cell.detection, scales.get(cell.field))) for cell in cells)


def find_scales(fields: Sequence[FieldQuality], scan: ScanSummary | None = None) -> dict[str, float | None]:
    """Find the side of a pixel in each field of a slide.

    The scale is the laboratory's: of slides.csv, or else of the metadata. If the red cells show that it is wrong, there
    is none. Where there was none, the median red cell measures 7.5 µm: in the field itself if it has 20 whole ones, or
    else in all fields of the slide together.

    Args:
        fields: The quality of the slide's fields, with the limits applied.
        scan: What was done with the scan, whose scale holds for all its zones; None for a folder of images.

    Returns:
        The side in µm by the field's name; None if it is not known.
    """
    slide_px = None if scan else _pool_red_cells(fields)
    return {
        field.field: None if field.scale_mismatch else scan.um_per_px if scan else _find_scale(field, slide_px)
        for field in fields
    }


def _find_scale(field: FieldQuality, slide_px: float | None) -> float | None:
    """Return the side of a pixel of a photograph in µm; slide_px is the median red cell of all fields."""
    if field.um_per_px is not None:
        return field.um_per_px
    red_cell_px = field.red_cell_px if field.red_cells >= _MIN_RED_CELLS else slide_px
    return None if red_cell_px is None else RED_CELL_UM / red_cell_px


def _pool_red_cells(fields: Sequence[FieldQuality]) -> float | None:
    """Return the median red cell of all fields in pixels; None if they are too few, or of several magnifications."""
    sides_px = [f.red_cell_px for f in fields if f.red_cell_px is not None for _ in range(f.red_cells)]
    if len(sides_px) < _MIN_RED_CELLS:
        return None
    low, median, high = np.quantile(sides_px, [0.1, 0.5, 0.9]).tolist()
    return float(median) if high <= _MAX_SPREAD * low else None


def _measure(detection: Detection, um_per_px: float | None) -> float | None:
    """Return a cell's diameter in µm; None if it cannot be measured."""
    if um_per_px is None or detection.cut_by_border:
        return None
    return um_per_px * detection.box.diameter_px

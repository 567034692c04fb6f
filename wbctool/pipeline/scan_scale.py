"""The size of a scan's pixels: from slides.csv, the file's metadata or, if neither tells, from its red cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from wbctool.errors import FieldUnreadable
from wbctool.imaging.scan import Scan
from wbctool.stages.red_cell_size import PARTS, PLACES_PER_SIDE, is_varied
from wbctool.stages.tiles import choose_places
from wbctool.types.cells import RED_CELL_UM, Box, Detection, Field, ObjectClass
from wbctool.types.progress import Progress, no_progress
from wbctool.types.scans import ScaleSource

_PART_PX = 1024  # of level 0
_STRIDE = 47  # through the places, so that the first parts are spread over the scan
_MIN_SHARE = 0.05  # of the pixels: the red cells' area


def find_scale(
    scan: Scan, given_um_per_px: float | None, detect: Callable[[Field, Progress], Sequence[Detection]]
) -> tuple[float, ScaleSource]:
    """Find the side of a pixel of level 0.

    Args:
        scan: The scan.
        given_um_per_px: What slides.csv says; None if it does not.
        detect: Finds the cells of a field.

    Returns:
        The side in µm, and where it is known from.

    Raises:
        FieldUnreadable: Nothing tells.
    """
    if given_um_per_px is not None:
        return given_um_per_px, ScaleSource.SLIDES_CSV
    if scan.um_per_px is not None:
        return scan.um_per_px, ScaleSource.METADATA
    measured = sorted((_measure(detect(part, no_progress), part) for part in _iter_parts(scan)), reverse=True)
    sides = [side for share, sides in measured[: (len(measured) + 1) // 2] if share >= _MIN_SHARE for side in sides]
    if not sides:
        raise FieldUnreadable(
            "neither the file nor its red cells tell how large its pixels are; give um_per_px in slides.csv"
        )
    return RED_CELL_UM / float(np.median(sides)), ScaleSource.RED_CELLS


def _iter_parts(scan: Scan) -> Iterator[Field]:
    """Yield some parts of level 0 that are not glass."""
    bounds = scan.bounds
    places = choose_places(bounds.width, bounds.height, _PART_PX, PLACES_PER_SIDE)
    order = sorted(range(len(places)), key=lambda index: (index * _STRIDE % len(places), index))
    n_parts = 0
    for x, y in (places[index] for index in order):
        side_x, side_y = min(_PART_PX, bounds.width), min(_PART_PX, bounds.height)
        rgb = scan.read(Box(bounds.x + x, bounds.y + y, side_x, side_y), scan.levels[0])
        if is_varied(rgb):
            yield Field("part", rgb)
            n_parts += 1
            if n_parts == PARTS:
                return


def _measure(detections: Sequence[Detection], part: Field) -> tuple[float, list[float]]:
    """Return the share of a part that its whole red cells cover, and their sides in pixels."""
    boxes = [d.box for d in detections if d.object_class is ObjectClass.RED_CELL and not d.cut_by_border]
    sides = [box.diameter_px for box in boxes]
    return sum(side * side for side in sides) / (part.rgb.shape[0] * part.rgb.shape[1]), sides

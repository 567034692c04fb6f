"""The images of a cell on a label page: the cell itself, large, and its place in the field.

Both are cut from the field's own image if that is still what the run analyzed. Else they are the thumbnails of the
report: the crop that the classifier saw, and the whole field reduced.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wbctool.adaptation.candidates import Candidate, load_run_result
from wbctool.errors import FieldUnreadable
from wbctool.imaging.crop import square_crop_box
from wbctool.imaging.reader import decode_rgb
from wbctool.imaging.thumbnails import make_large_thumbnail
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.types.cells import Box
from wbctool.types.results import FieldThumbnail

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb

CELL_MARGIN, SURROUNDINGS_MARGIN = 1.5, 6.0  # sides of the images divided by the longer side of the cell's box
CELL_PX, SURROUNDINGS_PX = 512, 400  # larger images are reduced to it, smaller ones keep their pixels


@dataclass(frozen=True, slots=True)
class CellImages:
    """The images of one cell.

    Attributes:
        cell: The cell, as WebP.
        surroundings: Its surroundings or its whole field, as WebP or JPEG; empty if there is no image of the field.
        region: What part of the field the surroundings show, in native pixels.
        from_field: Whether they are cut from the field's own image.
    """

    cell: bytes
    surroundings: bytes
    region: Box
    from_field: bool


def make_cell_images(
    output: OutputPaths, cells: Sequence[Candidate], images: FieldImages
) -> dict[tuple[str, int], CellImages]:
    """Make the images of cells, by slide and row. Each image is read once.

    Args:
        output: The results.
        cells: The cells.
        images: The fields' files.

    Returns:
        The images; a cell is missing if neither the results nor an image that can be decoded show it.

    Raises:
        ResultsInvalid: A file of the results is missing or altered.
    """
    by_field = defaultdict[tuple[str, str], list[Candidate]](list)
    for cell in cells:
        by_field[cell.slide, cell.cell.field].append(cell)
    shown, without_image = dict[tuple[str, int], CellImages](), list[Candidate]()
    for field_cells in by_field.values():
        rgb = _read_image(field_cells[0], images)
        for cell in field_cells:
            if rgb is None:
                without_image.append(cell)
            else:
                shown[cell.slide, cell.row] = _cut_images(rgb, cell.cell.detection.box)
    for slide in dict.fromkeys(cell.slide for cell in without_image):
        rows = [cell.row for cell in without_image if cell.slide == slide]
        shown |= {(slide, row): stored for row, stored in _stored_images(output, slide, rows).items()}
    return shown


def _read_image(cell: Candidate, images: FieldImages) -> Rgb | None:
    """Return the image of a cell's field; None if it is not there as the run analyzed it."""
    content = images.read(cell.slide, cell.cell.field, cell.field_sha256)
    try:
        return None if content is None else decode_rgb(content, math.inf)
    except FieldUnreadable:  # by another version of a decoder
        return None


def _cut_images(rgb: Rgb, box: Box) -> CellImages:
    """Cut a cell and its surroundings from its field."""
    cell, _ = _cut(rgb, box, CELL_MARGIN)
    surroundings, region = _cut(rgb, box, SURROUNDINGS_MARGIN)
    return CellImages(
        make_large_thumbnail(cell, CELL_PX), make_large_thumbnail(surroundings, SURROUNDINGS_PX), region, True
    )


def _cut(rgb: Rgb, box: Box, margin: float) -> tuple[Rgb, Box]:
    """Cut the square around a box as far as it lies in the field; return its pixels and where they are."""
    height, width = rgb.shape[:2]
    square = square_crop_box(box, margin, height, width)
    region = Box(square.x, square.y, min(square.width, width), min(square.height, height))
    pixels = rgb[region.y : region.y + region.height, region.x : region.x + region.width]
    return np.ascontiguousarray(pixels), region


def _stored_images(output: OutputPaths, slide: str, rows: Sequence[int]) -> dict[int, CellImages]:
    """Return the images that the report of a slide shows of cells, by row."""
    result, _ = load_run_result(output, slide)
    fields = {thumbnail.name: thumbnail for thumbnail in result.field_thumbnails}
    nothing = FieldThumbnail("", 1, 1, b"")
    images = {}
    for row in rows:
        if not (native := result.thumbnails[row - 1].native):
            continue
        field = fields.get(result.cells[row - 1].field, nothing)
        images[row] = CellImages(native, field.jpeg, Box(field.x, field.y, field.width, field.height), False)
    return images

"""The cells for classifier and generator, found and cropped by the same code as in a run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledField, LabelledImage, UnknownImage
from wbctool.datasets.single_cell import find_labelled_cell
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import DetectorCard
from wbctool.inference.session import OnnxModel
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.report.csv_tables import csv_text
from wbctool.stages.detect import detect_cells
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool.store.atomic_write import write_atomic
from wbctool.types.cells import Box, Field, ObjectClass

CELL_COLUMNS = ("path", "x", "y", "width", "height", "label", "group", "dataset", "subtype")
_MATCH_IOU = 0.4
_NOT_UTF8 = "surrogateescape"  # how Python reads names of files in other encodings


@dataclass(frozen=True, slots=True)
class CellRef:
    """A cell in an image.

    Attributes:
        path: The image.
        box: The cell's box, in native pixels.
        label: The class, or a kind that no class fits; None if neither is known.
        group: The original, by which splits are made.
        dataset: The dataset or microscope.
        subtype: The finer kind of the label; None if the data do not tell it.
    """

    path: Path
    box: Box
    label: CellClass | UnknownKind | None
    group: str
    dataset: str
    subtype: Subtype | None = None


def detect_image_cells(
    images: Sequence[LabelledImage | UnknownImage], detector: OnnxModel[DetectorCard]
) -> Iterable[CellRef]:
    """Yield one cell for each single-cell image, even if the detector finds none there.

    Args:
        images: Labeled single-cell images.
        detector: The detector.
    """
    for image in images:
        detection, _ = find_labelled_cell(read_labelled_field(image.path), detector)
        if isinstance(image, LabelledImage):
            yield CellRef(image.path, detection.box, image.label, image.group, image.dataset, image.subtype)
        else:
            yield CellRef(image.path, detection.box, UnknownKind(image.kind), image.group, image.dataset)


def detect_field_cells(fields: Sequence[LabelledField], detector: OnnxModel[DetectorCard]) -> Iterable[CellRef]:
    """Yield the detected cells that match an annotated box; labeled if all cells of their field are of one kind.

    Args:
        fields: Fields with boxes.
        detector: The detector.
    """
    for field in fields:
        annotated = [b.box for b in field.boxes if b.object_class is ObjectClass.NUCLEATED]
        label = _as_label(field.common_kind)
        for detection in detect_cells(read_labelled_field(field.path), detector):
            if any(detection.box.iou(box) >= _MATCH_IOU for box in annotated):
                yield CellRef(field.path, detection.box, label, field.group, field.dataset)


def cached_cells(path: Path, cells: Iterable[CellRef]) -> tuple[CellRef, ...]:
    """Write cells to a CSV file, or read them from it if it exists.

    Args:
        path: The CSV file.
        cells: Consumed only if the file does not exist.
    """
    if not path.is_file():
        write_atomic(path, csv_text(CELL_COLUMNS, map(_to_row, cells)).encode(errors=_NOT_UTF8))
    with path.open(newline="", encoding="utf-8", errors=_NOT_UTF8) as file:
        return tuple(
            CellRef(
                Path(row["path"]),
                Box(*(int(row[key]) for key in ("x", "y", "width", "height"))),
                _as_label(row["label"]),
                row["group"],
                row["dataset"],
                Subtype(row["subtype"]) if row["subtype"] else None,
            )
            for row in csv.DictReader(file)
        )


def crop_cell(cell: CellRef, margin: float, rng: Generator | None = None) -> NDArray[np.uint8]:
    """Return a cell's square crop at native resolution.

    Args:
        cell: The cell.
        margin: Side of the crop, relative to the box.
        rng: Varies box and margin a little, as a detector does; None: the exact crop.

    Returns:
        (n, n, 3) uint8 RGB.
    """
    field: Field = read_labelled_field(cell.path)
    box = cell.box if rng is None else _jitter_box(cell.box, rng)
    margin_factor = 1.0 if rng is None else float(np.exp(rng.normal(0, 0.08)))
    return crop_cells(field, [box], margin * margin_factor)[0].rgb


def preprocess_cells(cells: Sequence[CellRef], margin: float) -> NDArray[np.uint8]:
    """Return cells as a run prepares large ones, (N, 128, 128, 3) uint8 RGB.

    Args:
        cells: The cells.
        margin: Side of the crop, relative to the box.
    """
    return np.stack([resize_square(crop_cell(cell, margin), CLASSIFIER_INPUT_PX) for cell in cells])


def _as_label(text: str | None) -> CellClass | UnknownKind | None:
    """Return the class or unknown kind of that name; None if it is neither."""
    return next((label for label in (*CellClass, *UnknownKind) if label == text), None)


def _to_row(cell: CellRef) -> tuple[str, ...]:
    """Return a cell as a row of the CSV file."""
    box = (cell.box.x, cell.box.y, cell.box.width, cell.box.height)
    return (str(cell.path.resolve()), *map(str, box), cell.label or "", cell.group, cell.dataset, cell.subtype or "")


def _jitter_box(box: Box, rng: Generator) -> Box:
    """Shift and scale a box randomly by about 5 %."""
    dx, dy = rng.normal(0, 0.05, 2) * (box.width, box.height)
    scale = np.exp(rng.normal(0, 0.05, 2))
    width, height = max(1, round(box.width * scale[0])), max(1, round(box.height * scale[1]))
    return replace(box, x=round(box.x + dx), y=round(box.y + dy), width=width, height=height)

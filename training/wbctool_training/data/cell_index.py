"""The cells that the classifier and the generator train on, found and cut by wbctool's own detector and cropper."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wbctool.datasets.labelled import LabelledField, LabelledImage
from wbctool.datasets.single_cell import detect_labelled_cell
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.model_card import DetectorCard
from wbctool.inference.session import OnnxModel
from wbctool.labels import CellClass
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import Box, Field, ObjectClass

log = logging.getLogger(__name__)

_MATCH_IOU = 0.4


@dataclass(frozen=True, slots=True)
class CellRef:
    """A cell in an image. label: None where the class is not known. dataset: the data set or microscope."""

    path: Path
    box: Box
    label: CellClass | None
    group: str
    dataset: str


def detect_image_cells(images: Sequence[LabelledImage], detector: OnnxModel[DetectorCard]) -> Iterable[CellRef]:
    """One cell for each single-cell image; none is dropped."""
    for image in images:
        detection = detect_labelled_cell(read_field(image.path), detector)
        yield CellRef(image.path, detection.box, image.label, image.group, image.dataset)


def detect_field_cells(fields: Sequence[LabelledField], detector: OnnxModel[DetectorCard]) -> Iterable[CellRef]:
    """The detected cells that match an annotated one; labelled where all cells of their field are of one class."""
    for field in fields:
        annotated = [b.box for b in field.boxes if b.object_class is ObjectClass.NUCLEATED]
        label = field.labels[0] if len(set(field.labels)) == 1 else None
        for detection in detect_cells(read_field(field.path), detector):
            if any(detection.box.iou(box) >= _MATCH_IOU for box in annotated):
                yield CellRef(field.path, detection.box, label, field.group, field.dataset)


def cached_cells(path: Path, cells: Iterable[CellRef]) -> tuple[CellRef, ...]:
    """The cells written to ``path``; where that file is already there, its cells and nothing is detected again."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".tmp-{path.name}")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("path", "x", "y", "width", "height", "label", "source", "origin"))
            for c in cells:
                box = (c.box.x, c.box.y, c.box.width, c.box.height)
                writer.writerow((c.path.resolve(), *box, c.label or "", c.group, c.dataset))
        temporary.replace(path)
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(
            CellRef(
                Path(row["path"]),
                Box(*(int(row[key]) for key in ("x", "y", "width", "height"))),
                CellClass(row["label"]) if row["label"] else None,
                row["source"],
                row["origin"],
            )
            for row in csv.DictReader(file)
        )


def crop_cell(cell: CellRef, margin: float, rng: Generator | None = None) -> NDArray[np.uint8]:
    """The square native crop of a cell. rng: box and margin off by a little, as detectors are; None: exactly."""
    field: Field = read_field(cell.path)
    box = cell.box if rng is None else _jitter_box(cell.box, rng)
    margin_factor = 1.0 if rng is None else float(np.exp(rng.normal(0, 0.08)))
    return crop_cells(field, [box], margin * margin_factor)[0].rgb


def _jitter_box(box: Box, rng: Generator) -> Box:
    dx, dy = rng.normal(0, 0.05, 2) * (box.width, box.height)
    scale = np.exp(rng.normal(0, 0.05, 2))
    width, height = max(1, round(box.width * scale[0])), max(1, round(box.height * scale[1]))
    return replace(box, x=round(box.x + dx), y=round(box.y + dy), width=width, height=height)

"""Cells to calibrate int8 copies with, and others to measure int8 and fp16 copies on; never one source for both."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.choices import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.classification import find_crops
from wbctool.lab.labelled import LabelledImage, Split, Splitting, read_class_folders
from wbctool.lab.progress import Progress
from wbctool.lab.sampling import spread
from wbctool.labels import CellClass
from wbctool.models import Models
from wbctool.stages.upscale import PREPARED_PX, prepare_crops
from wbctool.wording import number_of

Rgb = NDArray[np.uint8]
Item = TypeVar("Item")

PACKAGED = Path(__file__).parent.parent / "calibration"
SHEET, TABLE = "cells.jpg", "cells.csv"
COLUMNS = 12  # cells in a row of the sheet
_THIRD = 3  # of the packaged cells every third calibrates
_CALIBRATE, _MEASURE = 64, 400  # at most so many labelled cells
_LEAST = 50  # cells to measure on, fewer say nothing of a change of one in a hundred
_ENOUGH = 200  # with fewer each is shown turned, too


@dataclass(frozen=True, slots=True)
class CalibrationCells:
    """calibrate, measure: (N, 128, 128, 3) uint8 RGB, prepared crops. labels: of ``measure``; None where it is
    pointless to ask for accuracy. calibrated_on, measured_on: what they are, in words.
    """

    calibrate: Rgb
    measure: Rgb
    labels: tuple[CellClass, ...] | None
    calibrated_on: str
    measured_on: str

    @property
    def turns(self) -> int:
        """How often each cell to measure on is shown: as it is, or also turned (:func:`turned`)."""
        return 1 if len(self.measure) >= _ENOUGH else len(turned(self.measure[:1]))


def turned(rgb: Rgb) -> Rgb:
    """rgb: (N, s, s, 3) -> (4 N, s, s, 3): as it is, then mirrored left to right, upside down, and both."""
    return np.concatenate([rgb, rgb[:, :, ::-1], rgb[:, ::-1], rgb[:, ::-1, ::-1]])


def packaged_cells(folder: Path = PACKAGED) -> CalibrationCells:
    """The cells that come with wbctool (``wbctool/calibration/README.md``): a third calibrates, the rest measures.

    All are of training sources, so of accuracy they say nothing.
    """
    sheet = cv2.imdecode(np.frombuffer((folder / SHEET).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if sheet is None:
        raise LabelledDataInvalid(f"{folder / SHEET} is not an image")
    with (folder / TABLE).open(newline="", encoding="utf-8") as lines:
        number = len(list(csv.DictReader(lines)))
    cells = cut_sheet(np.asarray(cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB), np.uint8), number)
    first = np.arange(number) % _THIRD == 0
    words = "training cells shipped with wbctool"
    return CalibrationCells(cells[first], cells[~first], None, f"{first.sum()} {words}", f"{(~first).sum()} {words}")


def lay_sheet(cells: Rgb) -> Rgb:
    """cells: (N, 128, 128, 3) -> one image, COLUMNS in a row, the last row filled up with black."""
    rows = -(-len(cells) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, *cells.shape[1:]), np.uint8)
    sheet[: len(cells)] = cells
    grid = sheet.reshape(rows, COLUMNS, PREPARED_PX, PREPARED_PX, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * PREPARED_PX, COLUMNS * PREPARED_PX, 3)


def cut_sheet(sheet: Rgb, number: int) -> Rgb:
    """The first ``number`` cells of a sheet as :func:`lay_sheet` makes it: (number, 128, 128, 3)."""
    rows, columns = sheet.shape[0] // PREPARED_PX, sheet.shape[1] // PREPARED_PX
    grid = sheet.reshape(rows, PREPARED_PX, columns, PREPARED_PX, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(-1, PREPARED_PX, PREPARED_PX, 3)[:number])


def labelled_cells(data: Path, models: Models, progress: Progress) -> CalibrationCells:
    """Cells of class folders, found, cut and prepared as a run does it.

    Training sources calibrate, validation sources measure; those that are held back stay so. models: the fp32 ones.
    Raises LabelledDataInvalid where there are too few.
    """
    splitting = Splitting.of_card(models.classifier.card.training)
    known = [image for image in read_class_folders(data) if image.label in models.classifier.card.classes]
    calibrate = spread([image for image in known if splitting.of(image) is Split.TRAIN], _CALIBRATE)
    measure = spread([image for image in known if splitting.of(image) is Split.VALIDATION], _MEASURE)
    if not calibrate or len(measure) < _LEAST:
        raise LabelledDataInvalid(
            f"{data}: {number_of(len(measure), 'labelled cell')} of validation sources, which are a tenth of all; "
            f"{_LEAST} are needed to measure on"
        )
    words = f"cells of {data.resolve().name}"
    return CalibrationCells(
        _prepared(calibrate, models, progress),
        _prepared(measure, models, progress),
        tuple(image.label for image in measure),
        f"{len(calibrate)} {words}, training sources",
        f"{len(measure)} {words}, validation sources",
    )


def _prepared(images: Sequence[LabelledImage], models: Models, progress: Progress) -> Rgb:
    crops = [cell.crop for cell in find_crops(images, models, progress, "cells for the copies")]
    return prepare_crops(crops, models.generator, SuperResolve.AUTO).rgb

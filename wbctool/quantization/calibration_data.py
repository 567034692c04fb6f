"""Cells to calibrate int8 copies with, and cells of other groups to measure int8 and fp16 copies on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.labelled import GroupSplit, Split, evenly_spaced
from wbctool.enums import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.classification import LabelledCrop, crop_labelled_cells
from wbctool.inference.loading import Models
from wbctool.labels import CellClass
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX, preprocess_crops
from wbctool.text import pluralize
from wbctool.types.arrays import Rgb
from wbctool.types.progress import Progress

BUNDLED_DIR = Path(__file__).parent / "calibration"
SHEET_FILE, TABLE_FILE = "cells.jpg", "cells.csv"
SHEET_COLUMNS = 12  # cells in a row of the sheet
_CALIBRATION_STRIDE = 3  # every third packaged cell is for calibration
_MAX_CALIBRATION_CELLS, _MAX_VALIDATION_CELLS = 64, 400  # of labeled cells
MIN_VALIDATION_CELLS = 50  # fewer cannot show a change of one cell in a hundred
_FLIP_BELOW = 200  # with fewer validation cells, each is also shown flipped


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """Prepared crops to calibrate with and to measure on.

    Attributes:
        calibration_crops: (N, 128, 128, 3) uint8 RGB.
        validation_crops: (M, 128, 128, 3) uint8 RGB.
        labels: The true class of each validation crop; None if the accuracy on them would say nothing.
        calibrated_on: Description of the calibration crops, for the card.
        measured_on: Description of the validation crops, for the card.
    """

    calibration_crops: Rgb
    validation_crops: Rgb
    labels: tuple[CellClass, ...] | None
    calibrated_on: str
    measured_on: str

    @property
    def n_flips(self) -> int:
        """How often each validation crop is shown: once, or with its flipped copies (:func:`flip_augment`)."""
        return 1 if len(self.validation_crops) >= _FLIP_BELOW else len(flip_augment(self.validation_crops[:1]))


def flip_augment(rgb: Rgb) -> Rgb:
    """Add flipped copies: the crops as they are, then flipped left to right, upside down, and both.

    Args:
        rgb: (N, s, s, 3) uint8 RGB.

    Returns:
        (4 N, s, s, 3) uint8 RGB.
    """
    return np.concatenate([rgb, rgb[:, :, ::-1], rgb[:, ::-1], rgb[:, ::-1, ::-1]])


def load_bundled_cells() -> CalibrationData:
    """Load the cells that come with wbctool: a third to calibrate with, the rest to measure on.

    All are of training groups, so they have no labels: accuracy on them would say nothing. README.md in BUNDLED_DIR
    describes the sheet and its table.

    Raises:
        LabelledDataInvalid: The sheet is not an image.
    """
    sheet = cv2.imdecode(np.frombuffer((BUNDLED_DIR / SHEET_FILE).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if sheet is None:
        raise LabelledDataInvalid(f"{BUNDLED_DIR / SHEET_FILE} is not an image")
    with (BUNDLED_DIR / TABLE_FILE).open(newline="", encoding="utf-8") as file:
        number = len(list(csv.DictReader(file)))
    cells = untile_images(np.asarray(cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB), np.uint8), number)
    is_calibration = np.arange(number) % _CALIBRATION_STRIDE == 0
    description = "training cells shipped with wbctool"
    return CalibrationData(
        cells[is_calibration],
        cells[~is_calibration],
        None,
        f"{is_calibration.sum()} {description}",
        f"{(~is_calibration).sum()} {description}",
    )


def tile_images(cells: Rgb) -> Rgb:
    """Tile cells into one image, SHEET_COLUMNS in a row; the rest of the last row is black.

    Args:
        cells: (N, 128, 128, 3) uint8 RGB.

    Returns:
        (rows · 128, SHEET_COLUMNS · 128, 3) uint8 RGB.
    """
    rows = -(-len(cells) // SHEET_COLUMNS)
    sheet = np.zeros((rows * SHEET_COLUMNS, *cells.shape[1:]), np.uint8)
    sheet[: len(cells)] = cells
    grid = sheet.reshape(rows, SHEET_COLUMNS, CLASSIFIER_INPUT_PX, CLASSIFIER_INPUT_PX, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(rows * CLASSIFIER_INPUT_PX, SHEET_COLUMNS * CLASSIFIER_INPUT_PX, 3)


def untile_images(sheet: Rgb, number: int) -> Rgb:
    """Cut the cells out of a sheet that :func:`tile_images` made.

    Args:
        sheet: (rows · 128, columns · 128, 3) uint8 RGB.
        number: Number of cells.

    Returns:
        (number, 128, 128, 3) uint8 RGB.
    """
    rows, columns = sheet.shape[0] // CLASSIFIER_INPUT_PX, sheet.shape[1] // CLASSIFIER_INPUT_PX
    grid = sheet.reshape(rows, CLASSIFIER_INPUT_PX, columns, CLASSIFIER_INPUT_PX, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(-1, CLASSIFIER_INPUT_PX, CLASSIFIER_INPUT_PX, 3)[:number])


def load_labelled_cells(
    data: Path, models: Models, progress: Progress, min_validation_cells: int = MIN_VALIDATION_CELLS
) -> CalibrationData:
    """Load labeled cells, found, cut and prepared as a run does it.

    Training groups are for calibration, validation groups for measuring. Test groups are not used, nor are cells that
    adapted models have learned from.

    Args:
        data: The folder that holds the class folders.
        models: The fp32 models.
        progress: Wraps the images.
        min_validation_cells: Smallest number of cells to measure on.

    Raises:
        LabelledDataInvalid: There are too few cells, or an image cannot be read.
    """
    group_split = GroupSplit.from_card(models.classifier.card.training)
    candidates = [image for image in read_class_folders(data) if image.label in models.classifier.card.classes]
    calibration_images = evenly_spaced(
        [image for image in candidates if group_split.assign(image) is Split.TRAIN], _MAX_CALIBRATION_CELLS
    )
    validation_images = evenly_spaced(
        [image for image in candidates if group_split.assign(image) is Split.VALIDATION], _MAX_VALIDATION_CELLS
    )
    calibration_cells, validation_cells = (
        crop_labelled_cells(images, models, progress, "cells for the copies")
        for images in (calibration_images, validation_images)
    )
    if not calibration_cells or len(validation_cells) < min_validation_cells:
        n_learned = len(calibration_images) + len(validation_images) - len(calibration_cells) - len(validation_cells)
        left_out = f"; {pluralize(n_learned, 'cell')} left out, which the models have learned from" if n_learned else ""
        raise LabelledDataInvalid(
            f"{data}: {pluralize(len(calibration_cells), 'labeled cell')} of training groups and "
            f"{len(validation_cells)} of validation groups, which are a tenth of all; one is needed to calibrate with, "
            f"and {min_validation_cells} are needed to measure on{left_out}"
        )
    description = f"cells of {data.resolve().name}"
    return CalibrationData(
        _preprocess_cells(calibration_cells, models),
        _preprocess_cells(validation_cells, models),
        tuple(cell.image.label for cell in validation_cells),
        f"{len(calibration_cells)} {description}, training groups",
        f"{len(validation_cells)} {description}, validation groups",
    )


def _preprocess_cells(cells: Sequence[LabelledCrop], models: Models) -> Rgb:
    """Return the prepared crop (128, 128, 3) of each cell."""
    return preprocess_crops([cell.crop for cell in cells], models.generator, SuperResolve.AUTO).rgb

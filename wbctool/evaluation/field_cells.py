"""The cells of annotated fields, detected as in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledField, RedCellField
from wbctool.enums import SuperResolve
from wbctool.evaluation.classification import is_learned, predict
from wbctool.evaluation.metrics import match_boxes
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.imaging.crop import crop_cells
from wbctool.inference.loading import Models
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import Box, Crop, Detection, Field, Outcome
from wbctool.types.progress import Progress


@dataclass(frozen=True, slots=True)
class RedCellReport:
    """What a run finds in fields of red cells, in which no white cell is labeled.

    Attributes:
        dataset: Name of the data set.
        fields: Number of fields.
        found: Number of cells that a run finds.
        counted: Number of those that are counted.
        review: Number of those in review.
        not_wbc: Number of those filed as no white cell.
    """

    dataset: str
    fields: int
    found: int
    counted: int
    review: int
    not_wbc: int


def detect_in_fields(
    fields: Sequence[LabelledField], detect: Callable[[Field], Sequence[Detection]], progress: Progress
) -> list[list[Box]]:
    """Detect the nucleated cells of each field.

    Args:
        fields: The fields.
        detect: How cells are detected.
        progress: Wraps the fields.

    Returns:
        The boxes of each field, best first.

    Raises:
        LabelledDataInvalid: An image cannot be read.
    """
    return [
        [found.box for found in sorted(detect(read_labelled_field(field.path)), key=lambda found: -found.score)]
        for field in progress(fields, len(fields), "fields: finding cells")
    ]


def evaluate_field_cells(
    fields: Sequence[tuple[LabelledField, Sequence[Box]]], models: Models, mode: SuperResolve, progress: Progress
) -> tuple[EvaluatedCell, ...]:
    """Classify the labeled cells of fields.

    A cell that is not detected is classified at its annotated box. Fields are left out if their cells are of several
    kinds, or if fewer cells are labeled than have a box: it is not known there which cell is which.

    Args:
        fields: Annotated fields, and the boxes detected in each, best first.
        models: Generator and classifier.
        mode: When cells are super-resolved.
        progress: Wraps the fields.

    Returns:
        One cell for each annotated box, by field; without those that adapted models have learned from.

    Raises:
        LabelledDataInvalid: An image cannot be read.
    """
    crops: list[Crop] = []
    cells: list[tuple[LabelledField, bool]] = []
    labelled = [(field, boxes) for field, boxes in fields if field.common_kind]
    for field, boxes in progress(labelled, len(labelled), "fields: labeled cells"):
        matches = dict(match_boxes(field.nucleated_boxes, boxes))
        positions = [matches.get(box, box) for box in field.nucleated_boxes]
        cropped = crop_cells(read_labelled_field(field.path), positions, models.classifier.card.crop_margin)
        for box, crop in zip(field.nucleated_boxes, cropped, strict=True):
            if not is_learned(crop, models.classifier.card):
                crops.append(crop)
                cells.append((field, box in matches))
    return tuple(
        EvaluatedCell(
            dataset=field.dataset,
            image=field.path.name,
            group=field.group,
            kind=field.common_kind or "",
            subtype=None,
            prediction=prediction,
            is_found=is_found,
        )
        for (field, is_found), prediction in zip(cells, predict(crops, models, mode), strict=True)
    )


def evaluate_red_cell_fields(
    fields: Sequence[RedCellField], models: Models, mode: SuperResolve, progress: Progress
) -> tuple[RedCellReport, ...]:
    """Count what a run finds in fields of red cells.

    Args:
        fields: The fields.
        models: Detector, generator and classifier.
        mode: When cells are super-resolved.
        progress: Wraps the fields.

    Returns:
        One report a data set, in order of their names.

    Raises:
        LabelledDataInvalid: An image cannot be read.
    """
    crops: dict[str, list[Crop]] = {name: [] for name in sorted({field.dataset for field in fields})}
    for red_cells in progress(fields, len(fields), "fields of red cells"):
        field = read_labelled_field(red_cells.path)
        boxes = [detection.box for detection in detect_cells(field, models.detector)]
        crops[red_cells.dataset] += crop_cells(field, boxes, models.classifier.card.crop_margin)
    reports = []
    for dataset, found in crops.items():
        outcomes = Counter(prediction.outcome for prediction in predict(found, models, mode))
        reports.append(
            RedCellReport(
                dataset=dataset,
                fields=sum(field.dataset == dataset for field in fields),
                found=len(found),
                counted=outcomes[Outcome.COUNTED],
                review=outcomes[Outcome.NEEDS_REVIEW],
                not_wbc=outcomes[Outcome.NOT_WBC],
            )
        )
    return tuple(reports)

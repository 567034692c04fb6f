"""The labeled data of an evaluation, and which part of them belongs to its split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from wbctool.datasets.class_folders import log_left_out, read_single_cell_images
from wbctool.datasets.fields import find_field_folders, find_red_cell_folders, read_fields, read_red_cell_fields
from wbctool.datasets.labelled import (
    GroupSplit,
    HasGroup,
    HasPath,
    LabelledField,
    LabelledImage,
    RedCellField,
    Split,
    UnknownImage,
)
from wbctool.datasets.laboratories import find_unseen_datasets
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.loading import Models
from wbctool.inference.model_card import Card
from wbctool.labels import CellClass

_Grouped = TypeVar("_Grouped", bound=HasGroup)


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The labeled data of one split.

    Attributes:
        images: Single-cell images with a class.
        unknown_images: Single-cell images of kinds that no class fits.
        fields: Fields with boxes.
        classified_fields: Those of them that the classifier's split has, too.
        red_cell_fields: Fields of red cells.
        unseen_datasets: Data sets that no model was trained on, in order of their names. All of them is test split.
    """

    images: tuple[LabelledImage, ...]
    unknown_images: tuple[UnknownImage, ...]
    fields: tuple[LabelledField, ...]
    classified_fields: tuple[LabelledField, ...]
    red_cell_fields: tuple[RedCellField, ...]
    unseen_datasets: tuple[str, ...]


def read_evaluation_data(
    data: Path, models: Models, split: Split | None, field_labels: Mapping[str, CellClass | str]
) -> EvaluationData:
    """Read labeled data and select a split.

    Args:
        data: Class folders, fields with boxes, or a folder that holds several of them.
        models: Their cards have the split.
        split: The split; everything if None.
        field_labels: Classes of the cells in fields without a labels.csv, by the image's file name.

    Raises:
        LabelledDataInvalid: Nothing labeled was found, a table cannot be read, or ``field_labels`` names no field.
    """
    images, unknown_images = read_single_cell_images(data)
    log_left_out(data)
    fields = [field for folder in find_field_folders(data) for field in read_fields(folder, field_labels)]
    if field_labels and not any(field.path.name in field_labels for field in fields):
        raise LabelledDataInvalid(f"no field of {data} is named in the table of labels: is it the right one?")
    red_cell_fields = [field for folder in find_red_cell_folders(data) for field in read_red_cell_fields(folder)]
    items: list[HasPath] = [*images, *unknown_images, *fields, *red_cell_fields]
    unseen = find_unseen_datasets(items, [card.training for card in models.cards])

    def select(candidates: Iterable[_Grouped], card: Card) -> tuple[_Grouped, ...]:
        """Return the items of the split as a model's card defines it."""
        group_split = GroupSplit.from_card(card.training)
        group_split = replace(group_split, held_out_datasets=(*group_split.held_out_datasets, *unseen))
        return tuple(item for item in candidates if split is None or group_split.assign(item) is split)

    selected_fields = select(fields, models.detector.card)
    found = EvaluationData(
        images=select(images, models.classifier.card),
        unknown_images=select(unknown_images, models.classifier.card),
        fields=selected_fields,
        classified_fields=select(selected_fields, models.classifier.card),
        red_cell_fields=select(red_cell_fields, models.detector.card),
        unseen_datasets=tuple(sorted(unseen)),
    )
    known = any(image.label in models.classifier.card.classes for image in found.images)
    if not (known or found.unknown_images or found.fields or found.red_cell_fields):
        split_note = f" in the split {split.value}" if split else ""
        raise LabelledDataInvalid(f"{data}: no labeled cells or fields{split_note}")
    return found

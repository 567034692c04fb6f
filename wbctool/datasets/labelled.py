"""Labeled data: class folders of single-cell images, and fields with boxes, split by group.

Two layouts are read:

- class folders: ``DATA/.../<class>/*.jpg``, one labeled cell an image; :func:`wbctool.labels.parse_class` has the
  folders' names. A ``groups.csv`` (``label,image,source``) in DATA or above it names the original that each image is
  a copy of; without it each image is a group of its own.
- fields: ``DATA/images/*``, ``DATA/boxes.csv`` (``image,kind,xmin,ymin,xmax,ymax``, kind one of wbc, rbc, platelets),
  optionally ``labels.csv`` (``image,wbc_labels``) and ``sources.csv`` (``image,source``: the microscope).
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from wbctool.datasets.laboratory_tables import TableRow, read_table
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.reader import is_image
from wbctool.labels import CellClass, parse_class
from wbctool.types.cells import Box, ObjectClass

log = logging.getLogger(__name__)

# Among the first 3,000 numbers, the one whose fifths divide each class of BCCD's 277 originals most evenly. It was
# chosen by class counts alone, before anything was trained.
_SPLIT_SALT = 1618
FOLDS = 5
_BCCD_NAME = re.compile(r"BloodImage_0*(\d+)$")


class Split(StrEnum):
    """What a group is used for: 70 % for training, 10 % for validation and calibration, 20 % for the reported test."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of one labeled cell.

    Attributes:
        path: The file.
        label: The true class.
        group: What is never divided between splits, such as the original that the image is a copy of.
        dataset: Name of the data set's folder.
    """

    path: Path
    label: CellClass
    group: str
    dataset: str


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One annotated object of a field, with its box in pixels."""

    object_class: ObjectClass
    box: Box


@dataclass(frozen=True, slots=True)
class LabelledField:
    """A field with annotated objects.

    Attributes:
        path: The image.
        group: What is never divided between splits.
        dataset: The data set or microscope.
        boxes: The annotated objects.
        labels: Classes of the nucleated cells, in no order; empty if they are unknown.
    """

    path: Path
    group: str
    dataset: str
    boxes: tuple[LabelledBox, ...]
    labels: tuple[CellClass, ...]


class HasGroup(Protocol):
    """What can be split by group: an image, a field or a cell."""

    @property
    def group(self) -> str:
        """What is never divided between splits."""

    @property
    def dataset(self) -> str:
        """The data set or microscope."""


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Which groups a model is trained on. The model's card records it, so that `wbctool evaluate` uses the same split.

    A group's split follows from a hash of its name alone: adding data never moves it, and one original falls into the
    same split in every data set.

    Attributes:
        fold: Which fifth of the groups is the test split, from 0 to 4. All five make a grouped cross-validation; the
            shipped models have 0.
        held_out_datasets: Data sets that belong to the test split as a whole, like an unseen laboratory.
    """

    fold: int = 0
    held_out_datasets: tuple[str, ...] = ()

    def assign(self, item: HasGroup) -> Split:
        """Return the split of an image, field or cell."""
        if item.dataset in self.held_out_datasets:
            return Split.TEST
        digest = hashlib.sha256(f"{_SPLIT_SALT}:{item.group}".encode()).digest()
        tenth = int.from_bytes(digest[:8], "big") % 10
        if tenth % FOLDS == self.fold:
            return Split.TEST
        return Split.VALIDATION if tenth == (self.fold + 3) % 10 else Split.TRAIN

    @classmethod
    def from_card(cls, training: Mapping[str, Any]) -> GroupSplit:
        """Read the split from ``training`` of a model's card; the shipped split if the card has none."""
        split_record = training.get("group_split", {})
        return cls(int(split_record.get("fold", 0)), tuple(split_record.get("held_out_datasets", ())))

    def has_leakage(self, training: Mapping[str, Any]) -> bool:
        """Tell whether a model with this ``training`` in its card may have seen groups of this test split."""
        other_fold = GroupSplit.from_card(training).fold != self.fold
        return other_fold or not set(self.held_out_datasets).isdisjoint(training.get("datasets", ()))


def infer_group(path: Path) -> str:
    """Infer the group of an image that no ``groups.csv`` names.

    Args:
        path: The image.

    Returns:
        The number of the original in BCCD's file names, else a hash of the file's content, so that the same image in
        two data sets is one group.
    """
    bccd = _BCCD_NAME.match(path.stem)
    return bccd.group(1) if bccd else hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def find_field_folders(data: Path) -> tuple[Path, ...]:
    """Return the folders with a boxes.csv, among ``data`` and all folders in it."""
    return tuple(sorted(path.parent for path in data.rglob("boxes.csv")))


def read_class_folders(data: Path) -> tuple[LabelledImage, ...]:
    """Read the labeled images of a folder, at any depth.

    Args:
        data: The folder that holds the class folders.

    Returns:
        The images in order of their paths; empty if no folder is named after a class.

    Raises:
        LabelledDataInvalid: ``data`` is not a folder, or a groups.csv does not name an image.
    """
    if not data.is_dir():
        raise LabelledDataInvalid(f"{data} is not a folder")
    images: list[LabelledImage] = []
    for folder in find_unrecognized_folders(data):
        log.warning("%s is left out: its name is not a class", folder)
    for folder in _find_image_folders(data):
        label = parse_class(folder.name)
        if label is None:
            continue
        groups = _read_groups(folder, data)
        for path in sorted(p for p in folder.iterdir() if is_image(p)):
            group = infer_group(path) if groups is None else groups.get((folder.name.lower(), path.name))
            if group is None:
                raise LabelledDataInvalid(f"{path} is not in groups.csv, so its group is unknown")
            images.append(LabelledImage(path, label, group, _infer_dataset(data, path)))
    return tuple(images)


def find_unrecognized_folders(data: Path) -> tuple[Path, ...]:
    """Return folders of images, beside class folders, whose names are not a class: perhaps they are misspelled."""
    folders = _find_image_folders(data)
    class_parents = {folder.parent for folder in folders if parse_class(folder.name)} - set(find_field_folders(data))
    return tuple(folder for folder in folders if folder.parent in class_parents and not parse_class(folder.name))


def _find_image_folders(data: Path) -> list[Path]:
    """Return the folders that directly hold images."""
    return sorted({path.parent for path in data.rglob("*") if is_image(path)})


def read_fields(data: Path) -> tuple[LabelledField, ...]:
    """Read the annotated fields of a folder.

    Args:
        data: The folder that holds ``images/`` and boxes.csv.

    Returns:
        The fields with at least one box, in order of their names. Empty boxes are left out.

    Raises:
        LabelledDataInvalid: A box is invalid or its image is missing; the message names file and line.
    """
    boxes: dict[str, list[LabelledBox]] = defaultdict(list)
    table = data / "boxes.csv"
    for line in _read_rows(table, ("image", "kind", "xmin", "ymin", "xmax", "ymax")):
        location, row = f"{table}, line {line.line}", line.values
        try:
            x0, y0, x1, y1 = (round(float(row[key])) for key in ("xmin", "ymin", "xmax", "ymax"))
            object_class = ObjectClass(row["kind"])
        except (ValueError, TypeError, OverflowError) as error:
            raise LabelledDataInvalid(f"{location}: {error}") from error
        if not os.path.isfile(data / "images" / row["image"]):  # noqa: PTH113, Path.is_file raises an error if the name is too long
            raise LabelledDataInvalid(f"{location}: no such image: {data / 'images' / row['image']}")
        if x1 > x0 and y1 > y0:
            boxes[row["image"]].append(LabelledBox(object_class, Box(x0, y0, x1 - x0, y1 - y0)))
    labels = {
        line.values["image"]: tuple(c for c in map(parse_class, line.values["wbc_labels"].split(",")) if c)
        for line in _read_rows(data / "labels.csv", ("image", "wbc_labels"), required=False)
    }
    datasets = {
        line.values["image"]: line.values["source"]
        for line in _read_rows(data / "sources.csv", ("image", "source"), required=False)
    }
    return tuple(
        LabelledField(
            path=data / "images" / image,
            group=infer_group(data / "images" / image),
            dataset=datasets.get(image, data.resolve().name),
            boxes=tuple(boxes[image]),
            labels=labels.get(image, ()),
        )
        for image in sorted(boxes)
    )


def _infer_dataset(data: Path, image: Path) -> str:
    """Return the name of the folder that holds the class folders, not counting folders such as TRAIN or TEST."""
    for folder in image.parent.resolve().parents:
        if folder.name.lower() not in {"train", "test", "val", "images", "test_simple"}:
            return folder.name
    return data.resolve().name


def _read_groups(folder: Path, data: Path) -> dict[tuple[str, str], str] | None:
    """Read the nearest groups.csv up to two levels above the class folder, but not above the parent of DATA."""
    for candidate in folder.resolve().parents[:2]:
        if (candidate / "groups.csv").is_file():
            rows = (line.values for line in _read_rows(candidate / "groups.csv", ("label", "image", "source")))
            return {(row["label"].lower(), row["image"]): row["source"] for row in rows}
        if candidate == data.resolve().parent:
            break
    return None


def _read_rows(path: Path, columns: tuple[str, ...], required: bool = True) -> tuple[TableRow, ...]:
    """Return the rows of a table, each with a value in every column; none if an optional file is missing."""
    if not path.is_file():
        if required:
            raise LabelledDataInvalid(f"{path} is missing")
        return ()
    rows = read_table(path, columns, LabelledDataInvalid).rows
    for row in rows:
        if missing := [name for name in columns if name not in row.values]:
            raise LabelledDataInvalid(f"{path}, line {row.line}: missing {missing[0]}")
    return rows


Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], number: int) -> list[Item]:
    """Return at most ``number`` items, evenly spaced over all, in order.

    >>> evenly_spaced("abcdefgh", 3)
    ['a', 'c', 'f']
    """
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]

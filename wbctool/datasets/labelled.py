"""Labelled data: class folders of single-cell images, and fields with boxes. Splits are by source.

Two layouts are read:

- class folders: ``DATA/.../<class>/*.jpg``, one labelled cell an image; the folders' names go through
  :func:`wbctool.labels.parse_class`. A ``groups.csv`` (``label,image,source``) in DATA or above it names the
  original each image is a copy of; without it one image is one source.
- fields: ``DATA/images/*``, ``DATA/boxes.csv`` (``image,kind,xmin,ymin,xmax,ymax``, kind one of wbc, rbc, platelets),
  optionally ``labels.csv`` (``image,wbc_labels``) and ``sources.csv`` (``image,source``: the microscope).
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.reader import is_image
from wbctool.labels import CellClass, parse_class
from wbctool.types.cells import Box, ObjectClass

log = logging.getLogger(__name__)

# Of the first 3,000 numbers the one whose fifths share out each class of BCCD's 277 originals most evenly; chosen by
# class counts alone, before anything was trained.
_SPLIT_SALT = 1618
FOLDS = 5
_BCCD_NAME = re.compile(r"BloodImage_0*(\d+)$")


class Split(StrEnum):
    """What a source is for: 70 % to train on, 10 % to choose and calibrate by, 20 % held back to report on."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of one labelled cell. group: what splits are made by. dataset: the data set's folder name."""

    path: Path
    label: CellClass
    group: str
    dataset: str


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One annotated object of a field."""

    object_class: ObjectClass
    box: Box


@dataclass(frozen=True, slots=True)
class LabelledField:
    """A field with its boxes. dataset: the microscope. labels: its nucleated cells' classes, empty where unknown."""

    path: Path
    group: str
    dataset: str
    boxes: tuple[LabelledBox, ...]
    labels: tuple[CellClass, ...]


class HasGroup(Protocol):
    """What splits are made of: an image, a field, a cell."""

    @property
    def group(self) -> str:
        """The original."""

    @property
    def dataset(self) -> str:
        """The data set or microscope."""


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Which sources a model is trained on. Its card says it, so that `wbctool evaluate` holds the same ones back.

    A source's place is a hash of its name alone: adding data never moves it, and one original falls into the same
    split in every data set that it appears in. fold: which fifth of the sources is held back, 0 to 4; all five make a
    grouped cross-validation, 0 is what ships. held_out_datasets: origins that are held back whole, as a laboratory never met.
    """

    fold: int = 0
    held_out_datasets: tuple[str, ...] = ()

    def assign(self, item: HasGroup) -> Split:
        """The split of an image, field or cell."""
        if item.dataset in self.held_out_datasets:
            return Split.TEST
        digest = hashlib.sha256(f"{_SPLIT_SALT}:{item.group}".encode()).digest()
        tenth = int.from_bytes(digest[:8], "big") % 10
        if tenth % FOLDS == self.fold:
            return Split.TEST
        return Split.VALIDATION if tenth == (self.fold + 3) % 10 else Split.TRAIN

    @classmethod
    def from_card(cls, training: Mapping[str, Any]) -> GroupSplit:
        """As the ``training`` of a model's card has it; the shipped splits where it says nothing."""
        split_record = training.get("group_split", {})
        return cls(int(split_record.get("fold", 0)), tuple(split_record.get("held_out_datasets", ())))

    def has_leakage(self, training: Mapping[str, Any]) -> bool:
        """Whether a model whose card has that ``training`` may have seen sources that are held back here."""
        other_fold = GroupSplit.from_card(training).fold != self.fold
        return other_fold or not set(self.held_out_datasets).isdisjoint(training.get("datasets", ()))


def infer_group(path: Path) -> str:
    """The source of an image that no ``groups.csv`` names.

    BCCD's file names carry the number of the original; any other image is its own source, known by its content, so that
    the same picture in two data sets stays one source.
    """
    bccd = _BCCD_NAME.match(path.stem)
    return bccd.group(1) if bccd else hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def find_field_folders(data: Path) -> tuple[Path, ...]:
    """DATA, or the folders below it, that hold fields with boxes."""
    return tuple(sorted(path.parent for path in data.rglob("boxes.csv")))


def read_class_folders(data: Path) -> tuple[LabelledImage, ...]:
    """Every labelled image below DATA, in order of its path; none where no folder is named after a class.

    Raises LabelledDataInvalid where DATA is missing, or a groups.csv misses an image.
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
                raise LabelledDataInvalid(f"{path} is not in groups.csv, so its source is unknown")
            images.append(LabelledImage(path, label, group, _infer_dataset(data, path)))
    return tuple(images)


def find_unrecognized_folders(data: Path) -> tuple[Path, ...]:
    """Folders of images beside class folders that :func:`read_class_folders` leaves out: perhaps a slip of the pen."""
    folders = _find_image_folders(data)
    class_parents = {folder.parent for folder in folders if parse_class(folder.name)} - set(find_field_folders(data))
    return tuple(folder for folder in folders if folder.parent in class_parents and not parse_class(folder.name))


def _find_image_folders(data: Path) -> list[Path]:
    return sorted({path.parent for path in data.rglob("*") if is_image(path)})


def read_fields(data: Path) -> tuple[LabelledField, ...]:
    """Every field of DATA that has boxes, in order of its name.

    Raises LabelledDataInvalid, naming file and line, where a box is none or its image is missing.
    """
    boxes: dict[str, list[LabelledBox]] = defaultdict(list)
    table = data / "boxes.csv"
    for line, row in enumerate(_read_rows(table, ("image", "kind", "xmin", "ymin", "xmax", "ymax")), start=2):
        try:
            x0, y0, x1, y1 = (round(float(row[key])) for key in ("xmin", "ymin", "xmax", "ymax"))
            object_class = ObjectClass(row["kind"])
        except (ValueError, TypeError, OverflowError) as error:
            raise LabelledDataInvalid(f"{table}, line {line}: {error}") from error
        if not os.path.isfile(data / "images" / row["image"]):  # noqa: PTH113, of a name too long Path.is_file raises
            raise LabelledDataInvalid(f"{table}, line {line}: no such image: {data / 'images' / row['image']}")
        if x1 > x0 and y1 > y0:
            boxes[row["image"]].append(LabelledBox(object_class, Box(x0, y0, x1 - x0, y1 - y0)))
    labels = {
        row["image"]: tuple(c for c in map(parse_class, row["wbc_labels"].split(",")) if c)
        for row in _read_rows(data / "labels.csv", ("image", "wbc_labels"), required=False)
    }
    datasets = {
        row["image"]: row["source"] for row in _read_rows(data / "sources.csv", ("image", "source"), required=False)
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
    """The data set an image belongs to: the folder that holds the class folders, past any TRAIN or TEST."""
    for folder in image.parent.resolve().parents:
        if folder.name.lower() not in {"train", "test", "val", "images", "test_simple"}:
            return folder.name
    return data.resolve().name


def _read_groups(folder: Path, data: Path) -> dict[tuple[str, str], str] | None:
    """The nearest groups.csv from the class folder upwards, to two levels above it or to DATA and its own parent."""
    for candidate in folder.resolve().parents[:2]:
        if (candidate / "groups.csv").is_file():
            rows = _read_rows(candidate / "groups.csv", ("label", "image", "source"))
            return {(row["label"].lower(), row["image"]): row["source"] for row in rows}
        if candidate == data.resolve().parent:
            break
    return None


def _read_rows(path: Path, columns: tuple[str, ...], required: bool = True) -> Iterable[dict[str, str]]:
    if not path.is_file():
        if required:
            raise LabelledDataInvalid(f"{path} is missing")
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise LabelledDataInvalid(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelledDataInvalid(f"{path} is not a UTF-8 CSV file: {error}") from error
    missing = [c for c in columns if rows and c not in rows[0]]
    if missing:
        raise LabelledDataInvalid(f"{path}: missing column '{missing[0]}'")
    for line, row in enumerate(rows, start=2):
        if empty := [c for c in columns if row[c] is None]:
            raise LabelledDataInvalid(f"{path}, line {line}: missing {empty[0]}")
    return rows


Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], number: int) -> list[Item]:
    """At most ``number`` items, evenly spread over all, in order.

    >>> spread("abcdefgh", 3)
    ['a', 'c', 'f']
    """
    number = min(number, len(items))
    return [items[index * len(items) // number] for index in range(number)]

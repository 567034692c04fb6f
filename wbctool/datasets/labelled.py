"""Labeled images and fields, and their split by group. The readers: class_folders and fields."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from wbctool.datasets.laboratory_tables import TableRow, read_table
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.training_info import TrainingInfo
from wbctool.labels import CellClass, Subtype
from wbctool.types.cells import Box, ObjectClass

# Among the first 3,000 numbers, the one whose fifths divide each class of BCCD's 277 originals most evenly. It was
# chosen by class counts alone, before anything was trained.
_SPLIT_SALT = 1618
FOLDS = 5
_BCCD_NAME = re.compile(r"BloodImage_0*(\d+)$")
# Fields of BCCD that overlap, found by stages.shared_cells: the cell of the first is that of the second too, so both
# must be in one split. Where they were not, the second is the one that models had been trained on.
_SHOWS_CELL_OF = {
    "37": "38", "45": "44", "205": "276", "206": "278", "229": "258", "231": "256", "233": "254",
    "248": "242", "255": "232", "260": "227", "261": "226", "382": "395", "386": "391", "393": "384",
}  # fmt: skip


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
        subtype: The finer kind of the cell; None if the data do not tell it.
    """

    path: Path
    label: CellClass
    group: str
    dataset: str
    subtype: Subtype | None = None


@dataclass(frozen=True, slots=True)
class UnknownImage:
    """An image of one cell whose kind is known to the reader who labeled it, but is no class.

    Attributes:
        path: The file.
        kind: The kind: an UnknownKind, or what the data call it.
        group: What is never divided between splits.
        dataset: Name of the data set's folder.
        subtype: The finer kind of the cell; None if the data do not tell it.
    """

    path: Path
    kind: str
    group: str
    dataset: str
    subtype: Subtype | None = None


@dataclass(frozen=True, slots=True)
class LabelledBox:
    """One annotated object of a field.

    Attributes:
        object_class: What the object is.
        box: Its box, in pixels of the field.
    """

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
        unknown_kinds: Kinds of the nucleated cells that no class fits, in no order.
    """

    path: Path
    group: str
    dataset: str
    boxes: tuple[LabelledBox, ...]
    labels: tuple[CellClass, ...]
    unknown_kinds: tuple[str, ...] = ()

    @property
    def nucleated_boxes(self) -> tuple[Box, ...]:
        """The boxes of the nucleated cells."""
        return tuple(annotated.box for annotated in self.boxes if annotated.object_class is ObjectClass.NUCLEATED)

    @property
    def common_kind(self) -> CellClass | str | None:
        """The class or unknown kind of every nucleated cell; None if they differ, or fewer are labeled than boxed."""
        kinds: tuple[CellClass | str, ...] = (*self.labels, *self.unknown_kinds)
        return kinds[0] if len(set(kinds)) == 1 and len(kinds) >= len(self.nucleated_boxes) else None


@dataclass(frozen=True, slots=True)
class RedCellField:
    """A field of red cells, in which no white cell is labeled.

    Attributes:
        path: The image.
        group: What is never divided between splits.
        dataset: The data set.
        centers: The center (x, y) of each annotated red cell, in pixels.
    """

    path: Path
    group: str
    dataset: str
    centers: tuple[tuple[int, int], ...]


class HasGroup(Protocol):
    """What can be split by group: an image, a field or a cell."""

    @property
    def group(self) -> str:
        """What is never divided between splits."""

    @property
    def dataset(self) -> str:
        """The data set or microscope."""


class HasPath(HasGroup, Protocol):
    """What can be split by group and lies in a file: an image or a field."""

    @property
    def path(self) -> Path:
        """The file."""


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
        group = _SHOWS_CELL_OF.get(item.group, item.group)
        digest = hashlib.sha256(f"{_SPLIT_SALT}:{group}".encode()).digest()
        tenth = int.from_bytes(digest[:8], "big") % 10
        if tenth % FOLDS == self.fold:
            return Split.TEST
        return Split.VALIDATION if tenth == (self.fold + 3) % 10 else Split.TRAIN

    @classmethod
    def from_card(cls, training: TrainingInfo) -> GroupSplit:
        """Return the split in ``training`` of a model's card; the shipped split if the card has none."""
        return cls(training.group_split.fold, training.group_split.held_out_datasets)

    def has_leakage(self, training: TrainingInfo) -> bool:
        """Return whether a model with this ``training`` in its card may have seen groups of this test split.

        A card that does not say what its model was trained on does not rule out any dataset.
        """
        if GroupSplit.from_card(training).fold != self.fold:
            return True
        if training.datasets is None:
            return bool(self.held_out_datasets)
        return not set(self.held_out_datasets).isdisjoint(training.datasets)


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


def read_label_rows(path: Path, columns: tuple[str, ...]) -> tuple[TableRow, ...]:
    """Return the rows of a table of labels, each with a value in every column.

    Raises:
        LabelledDataInvalid: The table cannot be read, or a row is too short; the message names file and line.
    """
    if not path.is_file():
        raise LabelledDataInvalid(f"{path} is missing")
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

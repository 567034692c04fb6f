"""Single-cell images in class folders: ``DATA/.../<class>/*.jpg``, one labeled cell an image.

:func:`wbctool.labels.parse_class` has the folders' names. Two tables may lie beside the folders or above them:

- ``groups.csv`` (``label,image,source``) names the original that each image is a copy of. Without it each image is a
  group of its own.
- ``cells.csv`` (``folder,image,source,label``), beside the folders, also gives the label of each image, which may be a
  kind that no class fits.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from wbctool.datasets.fields import find_field_folders, find_red_cell_folders
from wbctool.datasets.labelled import LabelledImage, UnknownImage, infer_group, read_label_rows
from wbctool.datasets.laboratory_tables import TableRow, find_table, list_unread_tables, strip_cell
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.formats import UnreadKind, describe_unread, get_unread_kind, is_image
from wbctool.labels import CellClass, UnknownKind, parse_class, parse_kind, parse_subtype, parse_unknown_kind
from wbctool.system_folders import is_passed_over
from wbctool.text import pluralize

log = logging.getLogger(__name__)

_SPLIT_FOLDERS = frozenset({"train", "test", "val", "images", "test_simple"})
_CELL_COLUMNS = ("folder", "image", "source", "label")

_Value = TypeVar("_Value")


def read_class_folders(data: Path) -> tuple[LabelledImage, ...]:
    """Read the labeled images of a folder, at any depth.

    Args:
        data: The folder that holds the class folders.

    Returns:
        The images in order of their paths; empty if no folder is named after a class.

    Raises:
        LabelledDataInvalid: ``data`` is not a folder, a groups.csv or cells.csv does not name an image, or a folder
            cannot be searched.
    """
    known, unknown = read_single_cell_images(data)
    log_left_out(data)
    if unknown:
        kinds = ", ".join(sorted({image.kind for image in unknown}))
        log.warning("%s: %s of kinds that no class fits left out: %s", data, pluralize(len(unknown), "cell"), kinds)
    return known


def read_single_cell_images(data: Path) -> tuple[tuple[LabelledImage, ...], tuple[UnknownImage, ...]]:
    """Read the images of a folder, at any depth, that show one labeled cell.

    Args:
        data: The folder that holds the class folders.

    Returns:
        The images of known classes, and those of kinds that no class fits, both in order of their paths.

    Raises:
        LabelledDataInvalid: ``data`` is not a folder, a groups.csv or cells.csv does not name an image, or a folder
            cannot be searched.
    """
    if not data.is_dir():
        raise LabelledDataInvalid(f"{data} is not a folder")
    known: list[LabelledImage] = []
    unknown: list[UnknownImage] = []
    for folder in _find_image_folders(data):
        for path, kind, group in _iter_labels(folder, data):
            dataset, subtype = _infer_dataset(data, path), parse_subtype(folder.name, path.stem)
            if isinstance(kind, CellClass):
                fitting = subtype if subtype and subtype.label is kind else None
                known.append(LabelledImage(path, kind, group, dataset, fitting))
            else:
                fitting = subtype if subtype and subtype.label is None and kind == UnknownKind.BLAST else None
                unknown.append(UnknownImage(path, kind, group, dataset, fitting))
    return tuple(known), tuple(unknown)


def log_left_out(data: Path) -> None:
    """Warn of what :func:`describe_left_out` finds."""
    for note in describe_left_out(data):
        log.warning("%s: %s", data, note)


def describe_left_out(data: Path) -> list[str]:
    """Return what a laboratory may have expected to be read, and is not.

    These are folders of images beside class folders whose names are no kind of cell, images of kinds that are not
    read, and files that look like groups.csv or cells.csv.

    Args:
        data: The folder that holds the class folders.

    Raises:
        LabelledDataInvalid: A folder cannot be searched.
    """
    notes = [
        f"folder {folder.relative_to(data)} is left out: its name is not a class" for folder in _find_misnamed(data)
    ]
    unread: dict[UnreadKind, list[str]] = defaultdict(list)
    table_folders = {data}
    for path in data.rglob("*"):
        name = path.relative_to(data)
        if is_passed_over(name):
            continue
        if kind := get_unread_kind(path):
            unread[kind].append(str(name))
        elif path.is_dir() and parse_class(path.name):
            table_folders.add(path.parent)
    for folder in sorted(table_folders):
        for stem in ("groups", "cells"):
            found = _find_cell_table(folder) if stem == "cells" else find_table(folder, stem, LabelledDataInvalid)
            names = list_unread_tables(folder, stem, found, LabelledDataInvalid)
            notes += [f"not read: {(folder / name).relative_to(data)}; a table is {stem}.csv" for name in names]
    return notes + describe_unread(unread)


def _find_misnamed(data: Path) -> tuple[Path, ...]:
    """Return folders of images, beside class folders, whose names are no kind of cell: perhaps they are misspelled.

    Folders whose images a cells.csv labels are none of them.
    """
    folders = [folder for folder in _find_image_folders(data) if _find_cell_table(folder.resolve().parent) is None]
    field_folders = {*find_field_folders(data), *find_red_cell_folders(data)}
    class_parents = {folder.parent for folder in folders if parse_class(folder.name)} - field_folders
    return tuple(
        folder
        for folder in folders
        if folder.parent in class_parents and not (parse_class(folder.name) or parse_unknown_kind(folder.name))
    )


def _find_image_folders(data: Path) -> list[Path]:
    """Return the folders that directly hold images, without hidden ones and those that systems make."""
    folders = {path.parent for path in data.rglob("*") if is_image(path)}
    return sorted(folder for folder in folders if not is_passed_over(folder.relative_to(data) / "*"))


def _iter_labels(folder: Path, data: Path) -> Iterator[tuple[Path, CellClass | str, str]]:
    """Yield path, class or unknown kind, and group of each labeled image of a folder."""
    paths = sorted(path for path in folder.iterdir() if is_image(path))
    if table := _find_cell_table(folder.resolve().parent):
        cells = _read_cell_table(table, folder.name)
        for path in paths:
            if (key := _normalize(path.name)) not in cells:
                raise LabelledDataInvalid(f"{path} is not in {table.name}, so its label and group are unknown")
            label, group = cells[key]
            if label:
                yield path, parse_kind(label), group
        return
    folder_kind = parse_class(folder.name) or parse_unknown_kind(folder.name)
    if folder_kind is None:
        return
    groups = _read_groups(folder, data)
    for path in paths:
        key = _normalize(path.name)
        if groups is not None and key not in groups:
            raise LabelledDataInvalid(f"{path} is not in groups.csv, so its group is unknown")
        yield path, folder_kind, infer_group(path) if groups is None else groups[key]


def _find_cell_table(folder: Path) -> Path | None:
    """Return the cells.csv of a folder of image folders; None without one, or if `wbctool run` wrote it."""
    table = find_table(folder, "cells", LabelledDataInvalid)
    if table is None or table.suffix.lower() != ".csv":
        return None
    try:
        with table.open(encoding="utf-8-sig", errors="replace") as file:
            header = {name.strip(' "\r\n').lower() for name in re.split("[,;\t]", file.readline())}
    except OSError as error:
        raise LabelledDataInvalid(f"{table}: cannot be read: {error.strerror or error}") from error
    return table if {"folder", "image"} <= header else None


def _read_cell_table(table: Path, folder: str) -> dict[str, tuple[str, str]]:
    """Return label, perhaps empty, and group of each image of a folder."""
    rows = _select_rows(read_label_rows(table, _CELL_COLUMNS), "folder", folder)
    labels = [strip_cell(row.values["label"]) for row in rows]
    values = [(label, _read_source(table, row) if label else "") for row, label in zip(rows, labels, strict=True)]
    return _index_images(table, folder, rows, values)


def _select_rows(rows: Sequence[TableRow], column: str, folder: str) -> list[TableRow]:
    """Return the rows of a folder: those with exactly its name, else with its name in another case."""
    exact = [row for row in rows if row.values[column] == folder]
    return exact or [row for row in rows if _normalize(row.values[column]).casefold() == _normalize(folder).casefold()]


def _index_images(table: Path, folder: str, rows: Sequence[TableRow], values: Sequence[_Value]) -> dict[str, _Value]:
    """Return the value of each row by the image's name as :func:`_normalize` has it; two values are an error."""
    by_image: dict[str, _Value] = {}
    for row, value in zip(rows, values, strict=True):
        image = _normalize(row.values["image"]).removeprefix("./").removeprefix(f"{_normalize(folder)}/")
        if by_image.setdefault(image, value) != value:
            raise LabelledDataInvalid(f"{table}, line {row.line}: {image} has another value in an earlier line")
    return by_image


def _normalize(name: str) -> str:
    """Return a name without what differs between systems."""
    return unicodedata.normalize("NFC", strip_cell(name)).replace("\\", "/")


def _read_source(table: Path, row: TableRow) -> str:
    """Return the group that a row names; raises LabelledDataInvalid if it names none."""
    if source := strip_cell(row.values["source"]):
        return source
    raise LabelledDataInvalid(f"{table}, line {row.line}, source: it is empty; name the original of the image")


def _infer_dataset(data: Path, image: Path) -> str:
    """Return the name of the folder that holds the class folders, not counting folders such as TRAIN or TEST."""
    for folder in image.parent.resolve().parents:
        if folder.name.lower() not in _SPLIT_FOLDERS:
            return folder.name
    return data.resolve().name


def _read_groups(folder: Path, data: Path) -> dict[str, str] | None:
    """Return the group of each image of a class folder; None without a groups.csv.

    The nearest groups.csv up to two levels above the folder is read, but none above the parent of DATA.
    """
    for candidate in folder.resolve().parents[:2]:
        table = find_table(candidate, "groups", LabelledDataInvalid) if os.access(candidate, os.R_OK) else None
        if table is not None:
            rows = read_label_rows(table, ("label", "image", "source"))
            of_folder = _select_rows(rows, "label", folder.name) or [
                row for row in rows if parse_kind(row.values["label"]) == parse_kind(folder.name)
            ]
            return _index_images(table, folder.name, of_folder, [_read_source(table, row) for row in of_folder])
        if candidate == data.resolve().parent:
            break
    return None

"""Annotated fields: of nucleated cells with boxes, and of red cells alone.

- fields with boxes: ``DATA/images/*``, ``DATA/boxes.csv`` (``image,kind,xmin,ymin,xmax,ymax``, kind one of wbc, rbc,
  platelets), optionally ``labels.csv`` (``image,wbc_labels``) and ``sources.csv`` (``image,source``: the microscope).
- fields of red cells alone: ``DATA/images/*`` and ``DATA/red_cells.csv`` (``image,x,y``: the center of each red cell).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from wbctool.datasets.labelled import LabelledBox, LabelledField, RedCellField, infer_group, read_label_rows
from wbctool.datasets.laboratory_tables import find_table
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.imaging.formats import is_image
from wbctool.imaging.reader import oriented_size, read_field
from wbctool.labels import CellClass, parse_kind
from wbctool.paths import is_file
from wbctool.system_folders import is_passed_over
from wbctool.types.cells import Box, Field, ObjectClass


def find_field_folders(data: Path) -> tuple[Path, ...]:
    """Return the folders with a boxes.csv: ``data`` and all in it, but hidden ones and those of systems."""
    return _find_folders_with(data, "boxes")


def find_red_cell_folders(data: Path) -> tuple[Path, ...]:
    """Return the folders with a red_cells.csv, as :func:`find_field_folders`."""
    return _find_folders_with(data, "red_cells")


def _find_folders_with(data: Path, stem: str) -> tuple[Path, ...]:
    """Return the folders that hold a table, in whatever case its name is written."""
    candidates = {path.parent for path in data.rglob("*") if path.stem.casefold() == stem}
    visible = (folder for folder in candidates if not is_passed_over(folder.relative_to(data) / "*"))
    return tuple(sorted(folder for folder in visible if find_table(folder, stem, LabelledDataInvalid)))


def read_fields(data: Path, more_labels: Mapping[str, CellClass | str] | None = None) -> tuple[LabelledField, ...]:
    """Read the annotated fields of a folder.

    Args:
        data: The folder that holds ``images/`` and boxes.csv.
        more_labels: Class or unknown kind of the cell in each image that labels.csv does not name, by file name.

    Returns:
        The fields with at least one box, in order of their names. Empty boxes are left out.

    Raises:
        LabelledDataInvalid: A box is invalid, or the image of a row is missing; the message names file and line.
    """
    boxes: dict[str, list[LabelledBox]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    table = find_table(data, "boxes", LabelledDataInvalid) or data / "boxes.csv"
    for line in read_label_rows(table, ("image", "kind", "xmin", "ymin", "xmax", "ymax")):
        location, row = f"{table}, line {line.line}", line.values
        x0, y0, x1, y1 = (_parse_pixel(row[key], f"{location}, {key}") for key in ("xmin", "ymin", "xmax", "ymax"))
        try:
            object_class = ObjectClass(row["kind"].strip().casefold())
        except ValueError as error:
            allowed = ", ".join(ObjectClass)
            raise LabelledDataInvalid(f"{location}, kind: {row['kind']!r} is none of {allowed}") from error
        image = row["image"]
        if image not in sizes:
            sizes[image] = _measure_image(data / "images" / image, location)
        _check_inside(((x0 + x1) / 2, (y0 + y1) / 2), sizes[image], location)
        if x1 > x0 and y1 > y0:
            boxes[image].append(LabelledBox(object_class, Box(x0, y0, x1 - x0, y1 - y0)))
    kinds = {image: (kind,) for image, kind in (more_labels or {}).items()} | {
        image: tuple(parse_kind(name) for name in text.split(",") if name.strip())
        for image, text in _read_column_beside(data, "labels", "wbc_labels").items()
    }
    datasets = _read_column_beside(data, "sources", "source")
    return tuple(
        LabelledField(
            path=data / "images" / image,
            group=infer_group(data / "images" / image),
            dataset=datasets.get(image, data.resolve().name),
            boxes=tuple(boxes[image]),
            labels=tuple(kind for kind in kinds.get(image, ()) if isinstance(kind, CellClass)),
            unknown_kinds=tuple(kind for kind in kinds.get(image, ()) if not isinstance(kind, CellClass)),
        )
        for image in sorted(boxes)
    )


def read_red_cell_fields(data: Path) -> tuple[RedCellField, ...]:
    """Read the fields of a folder in which red cells are annotated, and no white cell.

    Args:
        data: The folder that holds ``images/`` and red_cells.csv.

    Returns:
        All images of the folder, in order of their names; those that the table does not name have no centers.

    Raises:
        LabelledDataInvalid: A center is invalid or its image is missing; the message names file and line.
    """
    centers: dict[str, list[tuple[int, int]]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    table = find_table(data, "red_cells", LabelledDataInvalid) or data / "red_cells.csv"
    for line in read_label_rows(table, ("image", "x", "y")):
        location, row = f"{table}, line {line.line}", line.values
        image = row["image"]
        center = _parse_pixel(row["x"], f"{location}, x"), _parse_pixel(row["y"], f"{location}, y")
        if image not in sizes:
            sizes[image] = _measure_image(data / "images" / image, location)
        _check_inside(center, sizes[image], location)
        centers[image].append(center)
    return tuple(
        RedCellField(path, infer_group(path), data.resolve().name, tuple(centers[path.name]))
        for path in sorted((data / "images").iterdir())
        if is_image(path)
    )


def read_labelled_field(path: Path) -> Field:
    """Read an image as a run does it.

    Raises:
        LabelledDataInvalid: The image cannot be read; the message names it.
    """
    try:
        return read_field(path)
    except FieldUnreadable as error:
        raise LabelledDataInvalid(f"{path}: {error}") from error


def read_cell_labels(path: Path) -> dict[str, CellClass | str]:
    """Read the class of the cell in each of many fields whose folder has no labels.csv.

    Args:
        path: A table with the columns image and label. Rows without a label are left out.

    Returns:
        Classes, or kinds that no class fits, by the image's file name.

    Raises:
        LabelledDataInvalid: The table cannot be read; the message names file and line.
    """
    labels = _read_column(path, "label")
    return {image: parse_kind(text) for image, text in labels.items() if text.strip()}


def _read_column_beside(data: Path, stem: str, column: str) -> dict[str, str]:
    """Return a column's text by image, of a table in the folder of the fields; empty if there is none."""
    table = find_table(data, stem, LabelledDataInvalid)
    if table is None:
        return {}
    for row in read_label_rows(table, ("image", column)):
        _check_image(data / "images" / row.values["image"], f"{table}, line {row.line}")
    return _read_column(table, column)


def _read_column(path: Path, column: str) -> dict[str, str]:
    """Return a column's text by image."""
    return {row.values["image"]: row.values[column] for row in read_label_rows(path, ("image", column))}


def _parse_pixel(text: str, location: str) -> int:
    """Return a place in an image, in whole pixels."""
    try:
        return round(float(text))
    except (ValueError, OverflowError) as error:
        raise LabelledDataInvalid(f"{location}: {text!r} is not a number of pixels") from error


def _measure_image(path: Path, location: str) -> tuple[int, int]:
    """Return the width and height of an image that a table names."""
    _check_image(path, location)
    try:
        return oriented_size(path)
    except FieldUnreadable as error:
        raise LabelledDataInvalid(f"{path}: {error}") from error


def _check_inside(center: tuple[float, float], size: tuple[int, int], location: str) -> None:
    """Raise an error if the center of a cell lies outside the image, as after the image was reduced."""
    if not (0 <= center[0] <= size[0] and 0 <= center[1] <= size[1]):
        raise LabelledDataInvalid(
            f"{location}: the cell lies outside the image, which has {size[0]}×{size[1]} pixels; was it resized or "
            "turned after it was labeled?"
        )


def _check_image(path: Path, location: str) -> None:
    """Raise an error that names the table's line if an image is missing."""
    if not is_file(path):
        raise LabelledDataInvalid(f"{location}: no such image: {path}")

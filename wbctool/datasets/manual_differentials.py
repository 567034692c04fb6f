"""A laboratory's own manual differentials, in ``differentials.csv`` or ``differentials.xlsx`` beside its slides.

One row a slide: ``slide`` (its folder), then a column for each class that was counted, named as class folders may be
(:func:`wbctool.labels.parse_class`). Columns of one class, such as bands and segmented, are added up. ``other`` takes
what is no class of the differential and belongs to the denominator. Values are counts or percents: each row is divided
by its own sum. ``counted`` may say how many cells the reader counted; without it, that is the row's sum if all values
are whole numbers, else 100.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from wbctool.datasets.laboratory_tables import Table, find_table, read_table, strip_cell
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass, parse_class
from wbctool.report.csv_tables import decode_csv_name

_STEM = "differentials"
_SLIDE, _OTHER, _COUNTED = "slide", "other", "counted"
_ASSUMED_COUNT = 100
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ManualDifferential:
    """A reader's differential of one slide.

    Attributes:
        slide: The slide's id.
        percents: Percent of the counted cells, in [0, 100], of each class that has a column.
        counted: Number of cells that the reader counted.
    """

    slide: str
    percents: dict[CellClass, float]
    counted: int

    def cell_count(self, label: CellClass) -> int:
        """Return the number of cells of a class, rounded."""
        return round(self.percents[label] * self.counted / 100)


def find_differentials(folder: Path) -> Path | None:
    """Return the folder's table of manual differentials; None if there is none."""
    return find_table(folder, _STEM, LabelledDataInvalid)


def read_differentials(path: Path) -> dict[str, ManualDifferential]:
    """Read a table of manual differentials (:func:`wbctool.datasets.laboratory_tables.read_table` has the dialects).

    Returns:
        The differentials by slide id.

    Raises:
        LabelledDataInvalid: The table cannot be read or a value is wrong; the message names line and column.
    """
    table = read_table(path, (_SLIDE,), LabelledDataInvalid)
    columns = _map_columns(path, table.columns)
    differentials: dict[str, ManualDifferential] = {}
    for row in table.rows:
        location = f"{path}, line {row.line}"
        if len(row.values) < len(table.columns):
            raise LabelledDataInvalid(f"{location}: fewer values than the header has columns")
        slide = decode_csv_name(strip_cell(row.values[_SLIDE]).strip("/"))
        if not slide or slide in differentials:
            raise LabelledDataInvalid(f"{location}: {'duplicate slide' if slide else 'no slide is named'}")
        differentials[slide] = _parse_row(location, slide, table, row.values, columns)
    if not differentials:
        raise LabelledDataInvalid(f"{path} has no rows")
    return differentials


def _map_columns(path: Path, names: tuple[str, ...]) -> dict[str, CellClass | None]:
    """Return the class of each column of counts; None for ``other``."""
    columns: dict[str, CellClass | None] = {}
    for name in names:
        label = parse_class(name)
        if label in DIFFERENTIAL_CLASSES or name == _OTHER:
            columns[name] = label
        elif name not in {_SLIDE, _COUNTED}:
            allowed = ", ".join(DIFFERENTIAL_CLASSES)
            raise LabelledDataInvalid(
                f"{path}: column {name!r} is not a class of the differential ({allowed}); count other cells as 'other'"
            )
    if not any(columns.values()):
        raise LabelledDataInvalid(f"{path} has no column for any class")
    return columns


def _parse_row(
    location: str, slide: str, table: Table, texts: dict[str, str], columns: dict[str, CellClass | None]
) -> ManualDifferential:
    """Turn a row's counts or percents into percents of its sum."""
    values = {name: _parse_number(f"{location}, {name}", table.number_text(texts[name])) for name in columns}
    total = sum(values.values())
    if total <= 0:
        raise LabelledDataInvalid(f"{location}: nothing was counted")
    percents: dict[CellClass, float] = {}
    for name, label in columns.items():
        if label is not None:
            percents[label] = percents.get(label, 0.0) + 100 * values[name] / total
    if texts.get(_COUNTED):
        counted = round(_parse_number(f"{location}, {_COUNTED}", table.number_text(texts[_COUNTED])))
    else:
        is_whole = all(value == round(value) for value in values.values())
        counted = round(total) if is_whole else _ASSUMED_COUNT
    return ManualDifferential(slide, percents, max(1, counted))


def _parse_number(location: str, text: str) -> float:
    """Return a count or percent; an empty text is 0."""
    if text and not _NUMBER.fullmatch(text):
        raise LabelledDataInvalid(f"{location}: {text!r} is not a number")
    value = float(text or 0)
    if not 0 <= value < 1e6:
        raise LabelledDataInvalid(f"{location}: {text!r} is not a count or a percentage")
    return value

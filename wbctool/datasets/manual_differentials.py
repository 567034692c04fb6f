"""A laboratory's own manual differentials, in ``differentials.csv`` or ``differentials.xlsx`` beside its slides.

One row a slide: ``slide`` (its folder), then a column for each class that was counted, named as class folders may be
(:func:`wbctool.labels.parse_class`). Columns of a class's finer kinds, such as bands and segmented, are added up.
``other`` takes what is no class of the differential and belongs to the denominator. Values are counts or percents: each
row is divided by its own sum. ``counted`` may say how many cells the reader counted; without it, that is the row's sum
if all values are whole numbers, else 100.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wbctool.datasets.laboratory_tables import Table, find_table, list_unread_tables, read_table, strip_cell
from wbctool.datasets.slide_names import SlideNameIndex
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass, parse_class, parse_subtype

_STEM = "differentials"
_SLIDE, _OTHER, _COUNTED = "slide", "other", "counted"
_TOTALS = frozenset({"total", "sum", "n", "wbc"})
_ASSUMED_COUNT = 100
_MAX_ROUNDING = 0.03  # of the sum of percents that are rounded
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


def find_differentials(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the folder's table of manual differentials, if there is one, and what looks like it but is not read."""
    table = find_table(folder, _STEM, LabelledDataInvalid)
    return table, list_unread_tables(folder, _STEM, table, LabelledDataInvalid)


def read_differentials(path: Path, slides: Iterable[str]) -> dict[str, ManualDifferential]:
    """Read a table of manual differentials (:func:`wbctool.datasets.laboratory_tables.read_table` has the dialects).

    Args:
        path: The table.
        slides: The ids of the slides that exist.

    Returns:
        The differentials by slide id; a row that names no slide has its name for an id.

    Raises:
        LabelledDataInvalid: The table cannot be read or a value is wrong; the message names line and column.
    """
    table = read_table(path, (_SLIDE,), LabelledDataInvalid)
    columns = _map_columns(path, table.columns)
    index = SlideNameIndex(slides)
    differentials: dict[str, ManualDifferential] = {}
    for row in table.rows:
        location = f"{path}, line {row.line}"
        if len(row.values) < len(table.columns):
            raise LabelledDataInvalid(f"{location}: fewer values than the header has columns")
        written = row.values[_SLIDE]
        slide = index.resolve(written, f"{location}, {_SLIDE}", LabelledDataInvalid) or strip_cell(written)
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
            raise LabelledDataInvalid(f"{path}: column {name!r} {_describe_unknown_column(name)}")
    if not any(columns.values()):
        raise LabelledDataInvalid(f"{path} has no column for any class")
    for label in DIFFERENTIAL_CLASSES:
        of_label = [name for name, class_ in columns.items() if class_ is label]
        whole = [name for name in of_label if parse_subtype(name, "") is None]
        if whole and len(of_label) > 1:
            raise LabelledDataInvalid(
                f"{path}: the columns {', '.join(map(repr, of_label))} are of one class, and cells would be counted "
                f"twice; keep {whole[0]!r} or the finer ones"
            )
    return columns


def _describe_unknown_column(name: str) -> str:
    """Say why a column is refused, and what to do."""
    if parse_class(name) is not None:
        return "stands outside the differential; remove it"
    if name in _TOTALS:
        return f"is no class; call the number of counted cells {_COUNTED!r}"
    allowed = ", ".join(DIFFERENTIAL_CLASSES)
    return f"is not a class of the differential ({allowed}); count other white cells as {_OTHER!r}"


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
        wholes = (counted, 100, 1)  # 1: of a workbook's cells that are shown as percents
        if counted < 1 or min(abs(total - whole) / whole for whole in wholes) > _MAX_ROUNDING:
            raise LabelledDataInvalid(
                f"{location}: the values add up to {total:g}, neither to the {counted} counted cells nor to 100 %; "
                f"put the other white cells into {_OTHER!r}"
            )
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

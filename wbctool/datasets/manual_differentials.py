"""A laboratory's own manual differentials: ``differentials.csv`` beside its slides.

One row a slide: ``slide`` (its folder), then a column for each class that was counted, named as class folders may be
(:func:`wbctool.labels.parse_class`); columns of one class, such as bands and segmented, add up. ``other`` takes what is
no class of ours and belongs to the denominator. Values are counts or percents: each row is taken by its own sum.
``counted`` may say how many cells the reader counted; without it that is the sum of whole numbers, else 100.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import LabelledDataInvalid
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass, parse_class
from wbctool.report.tables import decode_csv_name

FILE_NAME = "differentials.csv"
_SLIDE, _OTHER, _COUNTED = "slide", "other", "counted"
_ASSUMED_COUNT = 100
_SEPARATOR_LINE = re.compile(r"\Asep=[,;](\r\n|\r|\n)", re.IGNORECASE)  # Excel's own first line


@dataclass(frozen=True, slots=True)
class ManualDifferential:
    """A reader's differential. percents: of the classes that have a column; counted: the cells it rests on."""

    slide: str
    percents: dict[CellClass, float]
    counted: int

    def cell_count(self, label: CellClass) -> int:
        """The cells of a class, to the nearest whole."""
        return round(self.percents[label] * self.counted / 100)


def read_differentials(path: Path) -> dict[str, ManualDifferential]:
    """Every slide's row, by the slide's id. Commas or, as some spreadsheets write, semicolons and decimal commas.

    Raises LabelledDataInvalid, naming the line and the column.
    """
    try:
        return _parse_table(path)
    except csv.Error as error:
        raise LabelledDataInvalid(f"{path} is not a CSV file: {error}") from error


def _parse_table(path: Path) -> dict[str, ManualDifferential]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelledDataInvalid(f"{path} cannot be read: {error}") from error
    table = _SEPARATOR_LINE.sub("\n", text).lstrip("\r\n")
    skipped_lines = len(text.splitlines()) - len(table.splitlines())
    header = table.partition("\n")[0]
    semicolons = ";" in header and "," not in header
    reader = csv.DictReader(io.StringIO(table, newline=""), delimiter=";" if semicolons else ",")
    reader.fieldnames = [_normalize_column(name) for name in reader.fieldnames or ()]
    columns = _map_columns(path, reader.fieldnames)
    differentials: dict[str, ManualDifferential] = {}
    for row in reader:
        location = f"{path}, line {skipped_lines + reader.line_num}"
        if None in row or None in row.values():
            comparison = "fewer" if None in row.values() else "more"
            raise LabelledDataInvalid(f"{location}: {comparison} values than the header has columns")
        slide = decode_csv_name((row[_SLIDE] or "").strip().strip("/"))
        if not slide or slide in differentials:
            raise LabelledDataInvalid(f"{location}: {'duplicate slide' if slide else 'no slide is named'}")
        if semicolons:
            row |= {
                name: re.sub(r"^(\s*\d+),(\d+\s*)$", r"\1.\2", row[name] or "")
                for name in (*columns, _COUNTED)
                if name in row
            }
        differentials[slide] = _parse_row(location, slide, row, columns)
    if not differentials:
        raise LabelledDataInvalid(f"{path} has no rows")
    return differentials


def _normalize_column(name: str) -> str:
    """Our own columns in any case, as the classes' are."""
    normalized = name.strip().lower()
    return normalized if normalized in {_SLIDE, _OTHER, _COUNTED} else name


def _map_columns(path: Path, names: list[str]) -> dict[str, CellClass | None]:
    """The class of each column; None for ``other``."""
    if _SLIDE not in names:
        raise LabelledDataInvalid(f"{path}: missing column 'slide'")
    if duplicates := [name for name, times in Counter(names).items() if times > 1]:
        raise LabelledDataInvalid(f"{path}: duplicate column {duplicates[0]!r}")
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
    location: str, slide: str, row: dict[str, str], columns: dict[str, CellClass | None]
) -> ManualDifferential:
    values = {name: _parse_number(f"{location}, {name}", row[name]) for name in columns}
    total = sum(values.values())
    if total <= 0:
        raise LabelledDataInvalid(f"{location}: nothing was counted")
    percents: dict[CellClass, float] = {}
    for name, label in columns.items():
        if label is not None:
            percents[label] = percents.get(label, 0.0) + 100 * values[name] / total
    if row.get(_COUNTED):
        counted = round(_parse_number(f"{location}, {_COUNTED}", row[_COUNTED]))
    else:
        is_whole = all(value == round(value) for value in values.values())
        counted = round(total) if is_whole else _ASSUMED_COUNT
    return ManualDifferential(slide, percents, max(1, counted))


def _parse_number(location: str, text: str | None) -> float:
    if not re.fullmatch(r"\s*|\s*[+-]?(\d+\.?\d*|\.\d+)\s*", text or "", re.ASCII):
        raise LabelledDataInvalid(f"{location}: {text!r} is not a number")
    value = float((text or "").strip() or 0)
    if not 0 <= value < 1e6:
        raise LabelledDataInvalid(f"{location}: {text!r} is not a count or a percentage")
    return value

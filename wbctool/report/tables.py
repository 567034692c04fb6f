"""The CSV files: UTF-8, comma, ``\\n``, a header always, quoted as RFC 4180 says. Nothing is written to disk here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.layout import name_as_text, name_of_text
from wbctool.records import Cell, ClassCount, Differential
from wbctool.slide_results import SlideResult, SlideStatus

NOT_ASSESSED = "not_assessed"
_RUN_BY_SPREADSHEETS = ("=", "+", "-", "@")
_CLASS_COLUMNS = ("n", "pct", "ci95_low", "ci95_high")
COUNTS_COLUMNS: tuple[str, ...] = (
    *("slide", "status", "fields", "fields_failed", "cells", "counted", "review", "not_wbc"),
    *(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in _CLASS_COLUMNS),
    *("nrbc_per_100_wbc", "flags"),
)
DIFFERENTIAL_COLUMNS = (*("class", "n", "percent", "ci95_low", "ci95_high", "reference_low", "reference_high", "flag"),)
PROBABILITY = "p_"  # begins the names of the columns that follow, one for each class of the model's card
CELL_COLUMNS = (
    *("slide", "field", "cell", "x", "y", "width", "height", "detection_score", "cut_by_border", "super_resolved"),
    *("label", "confidence", "outcome", "reason"),
)


def failed_fields(result: SlideResult) -> int:
    """How many fields failed. A failure of the slide as a whole is none of a field."""
    return sum(bool(failure.field) for failure in result.failures)


def counts_row(result: SlideResult) -> tuple[str, ...]:
    """The values of COUNTS_COLUMNS; the slide's id as it is, not yet fit for a spreadsheet."""
    differential = result.differential
    numbers = (failed_fields(result), differential.cells, differential.counted, differential.review)
    nrbc = percent(differential.nrbc_per_100_wbc) if differential.nrbc_assessed else NOT_ASSESSED
    return (
        *(result.slide, result.status.value, str(result.fields), *map(str, numbers), str(differential.not_wbc)),
        *(value for count in differential.classes for value in _class_values(count)),
        *(nrbc, ";".join(differential.flags)),
    )


def empty_row(
    slide: str, status: SlideStatus, fields: int, known: Iterable[CellClass], flags: str = ""
) -> tuple[str, ...]:
    """The row of a slide without results: one that waits, or one that failed as a whole."""
    known = frozenset(known)
    failed = fields if status is SlideStatus.FAILED else 0
    return (
        *(slide, status.value, str(fields), str(failed), "0", "0", "0", "0"),
        *(v for c in DIFFERENTIAL_CLASSES for v in (("0", "", "", "") if c in known else (NOT_ASSESSED,) * 4)),
        *("" if CellClass.ERYTHROBLAST in known else NOT_ASSESSED, flags),
    )


def counts_csv(rows: Iterable[Sequence[str]]) -> str:
    """rows: of :func:`counts_row`, in slide order."""
    return csv_text(COUNTS_COLUMNS, ((spreadsheet_name(slide), *values) for slide, *values in rows))


def differential_csv(differential: Differential) -> str:
    """One row a class, in order."""
    rows = (
        (
            count.label.value,
            *_class_values(count),
            percent(count.reference_low),
            percent(count.reference_high),
            count.flag,
        )
        for count in differential.classes
    )
    return csv_text(DIFFERENTIAL_COLUMNS, rows)


def cells_csv(slide: str, cells: Iterable[Cell], classes: Sequence[CellClass]) -> str:
    """One row a cell, in order of field and cell. classes: of the model's card, in its order."""
    columns = (*CELL_COLUMNS, *(f"{PROBABILITY}{label}" for label in classes))
    return csv_text(columns, (_cell_row(slide, cell) for cell in cells))


def percent(value: float | None) -> str:
    """Two decimals; empty for None."""
    return "" if value is None else f"{value:.2f}"


def spreadsheet_name(name: str) -> str:
    """A slide's or field's name as a CSV cell that no spreadsheet runs. One to one: ``'=x`` gets an apostrophe too."""
    text = name_as_text(name)
    return f"'{text}" if text.lstrip("'").startswith(_RUN_BY_SPREADSHEETS) else text


def name_of_cell(cell: str) -> str:
    """The name that :func:`spreadsheet_name` wrote as ``cell``.

    >>> [name_of_cell(cell) for cell in ("'=1+1", "'x", "''=1")]
    ['=1+1', "'x", "'=1"]
    """
    marked = cell.startswith("'") and cell.lstrip("'").startswith(_RUN_BY_SPREADSHEETS)
    return name_of_text(cell[1:] if marked else cell)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as all of them are written; the values are as they shall stand there, names by spreadsheet_name."""
    # Not the csv module: it leaves a lone carriage return unquoted (until Python 3.13), which then ends the row.
    return "".join(",".join(map(_quoted, row)) + "\n" for row in (columns, *rows))


def _class_values(count: ClassCount) -> tuple[str, str, str, str]:
    if not count.assessed:
        return (NOT_ASSESSED,) * 4
    return str(count.n), percent(count.percent), percent(count.ci95_low), percent(count.ci95_high)


def _cell_row(slide: str, cell: Cell) -> tuple[str, ...]:
    box, prediction = cell.detection.box, cell.prediction
    return (
        *(spreadsheet_name(slide), spreadsheet_name(cell.field), str(cell.index)),
        *map(str, (box.x, box.y, box.width, box.height)),
        *(f"{cell.detection.score:.4f}", _bool(cell.detection.cut_by_border), _bool(cell.super_resolved)),
        *(prediction.label.value, f"{prediction.confidence:.4f}", prediction.outcome.value, prediction.reason.value),
        *(f"{probability:.4f}" for probability in prediction.probabilities),
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(c in ',"' or c < " " for c in value) else value

"""The CSV files: UTF-8, comma, ``\\n``, a header always, quoted as RFC 4180 says. Nothing is written to disk here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.text import decode_name, encode_name
from wbctool.types.cells import Cell, ClassCount, Differential
from wbctool.types.results import SlideResult, SlideStatus

NOT_ASSESSED = "not_assessed"
_FORMULA_PREFIXES = ("=", "+", "-", "@")
_CLASS_COLUMNS = ("n", "pct", "ci95_low", "ci95_high")
COUNTS_COLUMNS: tuple[str, ...] = (
    *("slide", "status", "fields", "fields_failed", "cells", "counted", "review", "not_wbc"),
    *(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in _CLASS_COLUMNS),
    *("nrbc_per_100_wbc", "flags"),
)
DIFFERENTIAL_COLUMNS = (*("class", "n", "percent", "ci95_low", "ci95_high", "reference_low", "reference_high", "flag"),)
PROBABILITY_PREFIX = "p_"  # begins the names of the columns that follow, one for each class of the model's card
CELL_COLUMNS = (
    *("slide", "field", "cell", "x", "y", "width", "height", "detection_score", "cut_by_border", "super_resolved"),
    *("label", "confidence", "outcome", "reason"),
)


def count_failed_fields(result: SlideResult) -> int:
    """How many fields failed. A failure of the slide as a whole is none of a field."""
    return sum(bool(failure.field) for failure in result.failures)


def counts_row(result: SlideResult) -> tuple[str, ...]:
    """The values of COUNTS_COLUMNS; the slide's id as it is, not yet fit for a spreadsheet."""
    differential = result.differential
    numbers = (count_failed_fields(result), differential.cells, differential.counted, differential.review)
    nrbc = format_percent(differential.nrbc_per_100_wbc) if differential.nrbc_assessed else NOT_ASSESSED
    return (
        *(result.slide, result.status.value, str(result.fields), *map(str, numbers), str(differential.not_wbc)),
        *(value for count in differential.classes for value in _class_values(count)),
        *(nrbc, ";".join(differential.flags)),
    )


def empty_row(
    slide: str, status: SlideStatus, fields: int, model_classes: Iterable[CellClass], flags: str = ""
) -> tuple[str, ...]:
    """The row of a slide without results: one that waits, or one that failed as a whole."""
    model_classes = frozenset(model_classes)
    failed = fields if status is SlideStatus.FAILED else 0
    return (
        *(slide, status.value, str(fields), str(failed), "0", "0", "0", "0"),
        *(v for c in DIFFERENTIAL_CLASSES for v in (("0", "", "", "") if c in model_classes else (NOT_ASSESSED,) * 4)),
        *("" if CellClass.ERYTHROBLAST in model_classes else NOT_ASSESSED, flags),
    )


def counts_csv(rows: Iterable[Sequence[str]]) -> str:
    """rows: of :func:`counts_row`, in slide order."""
    return csv_text(COUNTS_COLUMNS, ((encode_csv_name(slide), *values) for slide, *values in rows))


def differential_csv(differential: Differential) -> str:
    """One row a class, in order."""
    rows = (
        (
            count.label.value,
            *_class_values(count),
            format_percent(count.reference_low),
            format_percent(count.reference_high),
            count.flag,
        )
        for count in differential.classes
    )
    return csv_text(DIFFERENTIAL_COLUMNS, rows)


def cells_csv(slide: str, cells: Iterable[Cell], classes: Sequence[CellClass]) -> str:
    """One row a cell, in order of field and cell. classes: of the model's card, in its order."""
    columns = (*CELL_COLUMNS, *(f"{PROBABILITY_PREFIX}{label}" for label in classes))
    return csv_text(columns, (_cell_row(slide, cell) for cell in cells))


def format_percent(value: float | None) -> str:
    """Two decimals; empty for None."""
    return "" if value is None else f"{value:.2f}"


def encode_csv_name(name: str) -> str:
    """A slide's or field's name as a CSV cell that no spreadsheet runs. One to one: ``'=x`` gets an apostrophe too."""
    text = encode_name(name)
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA_PREFIXES) else text


def decode_csv_name(cell: str) -> str:
    """The name that :func:`encode_csv_name` wrote as ``cell``.

    >>> [decode_csv_name(cell) for cell in ("'=1+1", "'x", "''=1")]
    ['=1+1', "'x", "'=1"]
    """
    has_marker = cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA_PREFIXES)
    return decode_name(cell[1:] if has_marker else cell)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as all of them are written; the values are as they shall stand there, names by encode_csv_name."""
    # Not the csv module: it leaves a lone carriage return unquoted (until Python 3.13), which then ends the row.
    return "".join(",".join(map(_quote, row)) + "\n" for row in (columns, *rows))


def _class_values(count: ClassCount) -> tuple[str, str, str, str]:
    if not count.assessed:
        return (NOT_ASSESSED,) * 4
    return str(count.n), format_percent(count.percent), format_percent(count.ci95_low), format_percent(count.ci95_high)


def _cell_row(slide: str, cell: Cell) -> tuple[str, ...]:
    box, prediction = cell.detection.box, cell.prediction
    return (
        *(encode_csv_name(slide), encode_csv_name(cell.field), str(cell.index)),
        *map(str, (box.x, box.y, box.width, box.height)),
        *(f"{cell.detection.score:.4f}", _format_bool(cell.detection.cut_by_border), _format_bool(cell.super_resolved)),
        *(prediction.label.value, f"{prediction.confidence:.4f}", prediction.outcome.value, prediction.reason.value),
        *(f"{probability:.4f}" for probability in prediction.probabilities),
    )


def _format_bool(value: bool) -> str:
    return "true" if value else "false"


def _quote(value: str) -> str:
    return '"' + value.replace('"', '""') + '"' if any(c in ',"' or c < " " for c in value) else value

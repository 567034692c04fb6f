"""The CSV files as text: comma-separated, newline as line end, always with a header, quoted as in RFC 4180."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.text import decode_name, encode_name
from wbctool.types.cells import Cell
from wbctool.types.differential import ClassCount, Differential
from wbctool.types.results import LATER_CELL_COLUMNS, SlideResult, SlideStatus, count_failed_fields

NOT_ASSESSED = "not_assessed"
# A spreadsheet passes over blanks and invisible characters before a formula, and reads fullwidth signs as their own.
_FORMULA = re.compile(r"['\s\ufeff\u200b-\u200f\u2060]*[=+\-@＝＋－＠]")
_CLASS_COLUMNS = ("n", "pct", "ci95_low", "ci95_high")
COUNTS_COLUMNS: tuple[str, ...] = (
    *("slide", "status", "fields", "fields_failed", "cells", "counted", "review", "not_wbc"),
    *(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in _CLASS_COLUMNS),
    *("nrbc_per_100_wbc", "flags"),
)
DIFFERENTIAL_COLUMNS = (*("class", "n", "percent", "ci95_low", "ci95_high", "reference_low", "reference_high", "flag"),)
PROBABILITY_PREFIX = "p_"  # of the columns between CELL_COLUMNS and LATER_CELL_COLUMNS, one for each class of the model
CELL_COLUMNS = (
    *("slide", "field", "cell", "x", "y", "width", "height", "detection_score", "cut_by_border", "super_resolved"),
    *("label", "confidence", "outcome", "reason"),
)


def counts_row(result: SlideResult) -> dict[str, str]:
    """Return the values by ``COUNTS_COLUMNS``, with the slide's id as it is, before :func:`encode_csv_name`."""
    differential = result.differential
    numbers = (count_failed_fields(result.failures), differential.cells, differential.counted, differential.review)
    nrbc = format_percent(differential.nrbc_per_100_wbc) if differential.nrbc_assessed else NOT_ASSESSED
    values = (
        *(result.slide, result.status.value, str(result.fields), *map(str, numbers), str(differential.not_wbc)),
        *(value for count in differential.classes for value in _class_values(count)),
        *(nrbc, ";".join(differential.flags)),
    )
    return dict(zip(COUNTS_COLUMNS, values, strict=True))


def split_flags(text: str) -> list[str]:
    """Return the flags of the column ``flags``, in order."""
    return [flag for flag in text.split(";") if flag]


def empty_row(
    slide: str, status: SlideStatus, fields: int, model_classes: Iterable[CellClass], flags: str = ""
) -> dict[str, str]:
    """Return the values by ``COUNTS_COLUMNS`` for a slide without results, which is waiting or failed as a whole.

    Args:
        slide: Id of the slide.
        status: State of the slide.
        fields: Number of its images.
        model_classes: Classes of the loaded model; columns of others say ``not_assessed``.
        flags: Flags of the slide, separated by semicolons.
    """
    model_classes = frozenset(model_classes)
    failed = fields if status is SlideStatus.FAILED else 0
    values = (
        *(slide, status.value, str(fields), str(failed), "0", "0", "0", "0"),
        *(
            value
            for label in DIFFERENTIAL_CLASSES
            for value in (("0", "", "", "") if label in model_classes else (NOT_ASSESSED,) * 4)
        ),
        *("" if CellClass.ERYTHROBLAST in model_classes else NOT_ASSESSED, flags),
    )
    return dict(zip(COUNTS_COLUMNS, values, strict=True))


def counts_csv(rows: Iterable[Mapping[str, str]]) -> str:
    """Return counts.csv from the rows of :func:`counts_row`, in slide order."""
    encoded = ({**row, "slide": encode_csv_name(row["slide"])} for row in rows)
    return csv_text(COUNTS_COLUMNS, ([row[column] for column in COUNTS_COLUMNS] for row in encoded))


def differential_csv(differential: Differential) -> str:
    """Return differential.csv: one row per class, in order."""
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


def cells_csv(
    slide: str,
    cells: Iterable[Cell],
    classes: Sequence[CellClass],
    later_columns: Sequence[str] = LATER_CELL_COLUMNS,
) -> str:
    """Return cells.csv: one row per cell.

    Args:
        slide: Id of the slide.
        cells: Its cells.
        classes: The classes of the model, in the order of the probabilities.
        later_columns: Those of ``LATER_CELL_COLUMNS`` that the table has.
    """
    columns = (*CELL_COLUMNS, *(f"{PROBABILITY_PREFIX}{label}" for label in classes), *later_columns)
    return csv_text(columns, (_cell_row(slide, cell, later_columns) for cell in cells))


def hash_cells(result: SlideResult, classes: Sequence[CellClass]) -> str:
    """Return the SHA-256 by which reviews and labels name the cells of a slide: of cells.csv up to the probabilities.

    What comes after them, such as a diameter by another scale, makes no other cells. A slide without cells is named by
    its images, too, or a review of it would hold for every other slide without cells.

    Args:
        result: The slide's result.
        classes: The classes of the model, in the order of the probabilities.
    """
    text = cells_csv(result.slide, result.cells, classes, ())
    if not result.cells:
        text += csv_text(("field", "sha256"), [(encode_csv_name(name), sha or "") for name, sha in result.field_hashes])
    return hashlib.sha256(text.encode()).hexdigest()


def format_percent(value: float | None) -> str:
    """Format a number with two decimals; None gives an empty text."""
    return "" if value is None else f"{value:.2f}"


def parse_number(text: str) -> float | None:
    """Return a number of a table; None for an empty or not assessed value."""
    return None if text in {"", NOT_ASSESSED} else float(text)


def encode_csv_name(name: str) -> str:
    """Return a name so that no spreadsheet runs it as a formula.

    A name that begins with ``=``, ``+``, ``-`` or ``@``, also fullwidth or behind blanks and invisible characters, gets
    an apostrophe in front. The encoding is one to one: a name that already begins with apostrophes before such a
    character gets one more.
    """
    text = encode_name(name)
    return f"'{text}" if _FORMULA.match(text) else text


def decode_csv_name(cell: str) -> str:
    """Return the name that :func:`encode_csv_name` wrote as ``cell``.

    >>> [decode_csv_name(cell) for cell in ("'=1+1", "'x", "''=1")]
    ['=1+1', "'x", "'=1"]
    """
    has_marker = cell.startswith("'") and _FORMULA.match(cell)
    return decode_name(cell[1:] if has_marker else cell)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV. The values are written as they are: encode names with :func:`encode_csv_name` first."""
    # The csv module leaves a lone carriage return unquoted before Python 3.13, and readers then end the row there.
    return "".join(",".join(map(_quote, row)) + "\n" for row in (columns, *rows))


def _class_values(count: ClassCount) -> tuple[str, str, str, str]:
    """Return the values of ``_CLASS_COLUMNS`` for one class."""
    if not count.assessed:
        return (NOT_ASSESSED,) * 4
    return str(count.n), format_percent(count.percent), format_percent(count.ci95_low), format_percent(count.ci95_high)


def _cell_row(slide: str, cell: Cell, later_columns: Sequence[str]) -> tuple[str, ...]:
    """Return the values of one cell in cells.csv."""
    box, prediction = cell.detection.box, cell.prediction
    later_values = {
        "subtype": prediction.subtype or "",
        "diameter_um": "" if cell.diameter_um is None else f"{cell.diameter_um:.1f}",
    }
    return (
        *(encode_csv_name(slide), encode_csv_name(cell.field), str(cell.index)),
        *map(str, (box.x, box.y, box.width, box.height)),
        *(f"{cell.detection.score:.4f}", _format_bool(cell.detection.cut_by_border), _format_bool(cell.super_resolved)),
        *(prediction.label.value, f"{prediction.confidence:.4f}", prediction.outcome.value, prediction.reason.value),
        *(f"{probability:.4f}" for probability in prediction.probabilities),
        *(later_values[column] for column in later_columns),
    )


def _format_bool(value: bool) -> str:
    """Return a truth value as the tables have it."""
    return "true" if value else "false"


def _quote(value: str) -> str:
    """Quote a value if it needs it."""
    return '"' + value.replace('"', '""') + '"' if any(c in ',"' or c < " " for c in value) else value

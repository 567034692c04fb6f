"""qc-history.csv as text: a line for each time that a QC slide was done."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.qc_records import QcLine
from wbctool.report.tables import name_of_cell, spreadsheet_name
from wbctool.slide_results import Provenance

_COUNTS = tuple(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in ("n", "pct"))
HISTORY_COLUMNS: tuple[str, ...] = (
    *("time", "slide", "analysed", "status", "fingerprint", "tool_version", "provider", "precision", "models"),
    *("fields", "fields_failed", "counted", "review", *_COUNTS, "blur_um", "flags"),
)
REVIEW_SHARE = "review_pct"
QUANTITIES: tuple[str, ...] = (*(f"{label}_pct" for label in DIFFERENTIAL_CLASSES), REVIEW_SHARE, "blur_um")


def history_row(
    time: datetime, slide: str, analysed: bool, state: Mapping[str, Any], provenance: Provenance
) -> tuple[str, ...]:
    """The values of HISTORY_COLUMNS. state: the content of slide.json. analysed: not kept from an earlier run."""
    counts: Mapping[str, str] = state["counts"]
    blurs = sorted(q["blur_um"] for q in state["quality"] if q["blur_um"] is not None)
    models = ";".join(f"{model.file}={model.sha256}" for model in provenance.models)
    return (
        *(time.isoformat(timespec="seconds"), spreadsheet_name(slide), "true" if analysed else "false"),
        *(state["status"], state["fingerprint"], provenance.tool_version, provenance.provider, provenance.precision),
        *(models, *(counts[name] for name in ("fields", "fields_failed", "counted", "review", *_COUNTS))),
        *(f"{blurs[len(blurs) // 2]:.3f}" if blurs else "", counts["flags"]),
    )


def parse_rows(text: str) -> list[dict[str, str]]:
    """Every row by column. Raises ValueError where the text is no history, or that of another version."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != HISTORY_COLUMNS:
            raise ValueError("its columns are not those of a QC history of this version")
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"the line of {row.get('time')} and the header differ in length")
    return rows


def parse_history(text: str) -> tuple[QcLine, ...]:
    """The lines in their order; raises ValueError as :func:`parse_rows`, and where a value is no number."""
    return tuple(_line(row) for row in parse_rows(text))


def _line(row: Mapping[str, str]) -> QcLine:
    values = {name: _number(row[name]) for name in QUANTITIES if name != REVIEW_SHARE}
    seen = int(row["counted"]) + int(row["review"])
    values[REVIEW_SHARE] = 100 * int(row["review"]) / seen if seen else None
    return QcLine(
        datetime.fromisoformat(row["time"]), name_of_cell(row["slide"]), row["models"], int(row["counted"]), values
    )


def _number(text: str) -> float | None:
    return None if text in {"", "not_assessed"} else float(text)

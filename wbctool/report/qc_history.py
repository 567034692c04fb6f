"""qc-history.csv as text: a line for each time that a QC slide was done."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.qc_records import QcRecord
from wbctool.report.tables import decode_csv_name, encode_csv_name
from wbctool.types.results import Provenance

_COUNT_COLUMNS = tuple(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in ("n", "pct"))
HISTORY_COLUMNS: tuple[str, ...] = (
    *("time", "slide", "analysed", "status", "fingerprint", "tool_version", "provider", "precision", "models"),
    *("fields", "fields_failed", "counted", "review", *_COUNT_COLUMNS, "blur_um", "flags"),
)
REVIEW_PCT = "review_pct"
QUANTITIES: tuple[str, ...] = (*(f"{label}_pct" for label in DIFFERENTIAL_CLASSES), REVIEW_PCT, "blur_um")


def history_row(
    time: datetime, slide: str, analyzed: bool, record: Mapping[str, Any], provenance: Provenance
) -> tuple[str, ...]:
    """The values of HISTORY_COLUMNS. record: the content of slide.json. analyzed: not kept from an earlier run."""
    counts: Mapping[str, str] = record["counts"]
    blurs = sorted(q["blur_um"] for q in record["quality"] if q["blur_um"] is not None)
    models = ";".join(f"{model.file}={model.sha256}" for model in provenance.models)
    return (
        *(time.isoformat(timespec="seconds"), encode_csv_name(slide), "true" if analyzed else "false"),
        *(record["status"], record["fingerprint"], provenance.tool_version, provenance.provider, provenance.precision),
        *(models, *(counts[name] for name in ("fields", "fields_failed", "counted", "review", *_COUNT_COLUMNS))),
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


def parse_history(text: str) -> tuple[QcRecord, ...]:
    """The lines in their order; raises ValueError as :func:`parse_rows`, and where a value is no number."""
    return tuple(_parse_record(row) for row in parse_rows(text))


def _parse_record(row: Mapping[str, str]) -> QcRecord:
    values = {name: _parse_number(row[name]) for name in QUANTITIES if name != REVIEW_PCT}
    total = int(row["counted"]) + int(row["review"])
    values[REVIEW_PCT] = 100 * int(row["review"]) / total if total else None
    return QcRecord(
        datetime.fromisoformat(row["time"]), decode_csv_name(row["slide"]), row["models"], int(row["counted"]), values
    )


def _parse_number(text: str) -> float | None:
    return None if text in {"", "not_assessed"} else float(text)

"""qc-history.csv: a row for each time that a QC slide was processed."""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from wbctool.errors import RecordInvalid
from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.paths import ORIGINAL_PREFIX, SLIDE_JSON, OutputPaths
from wbctool.qc.types import QcRecord
from wbctool.report.csv_tables import csv_text, decode_csv_name, encode_csv_name, parse_number
from wbctool.store.atomic_write import write_atomic
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.store.slide_record import SlideRecord, find_slide_record, read_slide_record
from wbctool.text import encode_name
from wbctool.types.results import Provenance, SlideStatus

log = logging.getLogger(__name__)

_COUNT_COLUMNS = tuple(f"{label}_{column}" for label in DIFFERENTIAL_CLASSES for column in ("n", "pct"))
HISTORY_COLUMNS: tuple[str, ...] = (
    *("time", "slide", "analysed", "status", "fingerprint", "tool_version", "provider", "precision", "models"),
    *("fields", "fields_failed", "counted", "review", *_COUNT_COLUMNS, "blur_um", "flags"),
)
REVIEW_PCT = "review_pct"
QUANTITIES: tuple[str, ...] = (*(f"{label}_pct" for label in DIFFERENTIAL_CLASSES), REVIEW_PCT, "blur_um")


def history_row(
    time: datetime, slide: str, analyzed: bool, record: SlideRecord, provenance: Provenance
) -> tuple[str, ...]:
    """Return the values of HISTORY_COLUMNS for one slide.

    Args:
        time: When the row is written.
        slide: The slide's id.
        analyzed: Whether this run processed the slide, and did not keep an earlier result.
        record: The slide's record.
        provenance: Tool version, models, provider and precision of the run.
    """
    counts = record.counts
    blurs = sorted(quality.blur_um for quality in record.quality if quality.blur_um is not None)
    models = ";".join(f"{model.file}={model.sha256}" for model in provenance.models)
    return (
        *(time.isoformat(timespec="seconds"), encode_csv_name(slide), "true" if analyzed else "false"),
        *(record.status.value, record.cells_id, provenance.tool_version, provenance.provider, provenance.precision),
        *(models, *(counts[name] for name in ("fields", "fields_failed", "counted", "review", *_COUNT_COLUMNS))),
        *(f"{blurs[len(blurs) // 2]:.3f}" if blurs else "", counts["flags"]),
    )


def parse_rows(text: str) -> list[dict[str, str]]:
    """Parse a history into one dict of texts by column for each row.

    Raises:
        ValueError: The text is no history, or one of another version.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(reader.fieldnames or ()) != HISTORY_COLUMNS:
            raise ValueError("its columns are not those of a QC history of this version")
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    for row in rows:
        if None in row or None in row.values():
            raise ValueError(f"the row of {row.get('time')} and the header differ in length")
    return rows


def parse_history(text: str) -> tuple[QcRecord, ...]:
    """Parse a history into records, in order of their rows.

    Raises:
        ValueError: The text is no history, one of another version, or a value is not a number.
    """
    return tuple(_parse_record(row) for row in parse_rows(text))


def _parse_record(row: Mapping[str, str]) -> QcRecord:
    """Turn a row of texts into a record."""
    values = {name: parse_number(row[name]) for name in QUANTITIES if name != REVIEW_PCT}
    total = int(row["counted"]) + int(row["review"])
    values[REVIEW_PCT] = 100 * int(row["review"]) / total if total else None
    return QcRecord(
        datetime.fromisoformat(row["time"]), decode_csv_name(row["slide"]), row["models"], int(row["counted"]), values
    )


def append_qc_records(
    output: OutputPaths,
    patterns: Sequence[str],
    outcomes: Sequence[SlideOutcome],
    processed_ids: Container[str],
    provenance: Provenance,
) -> None:
    """Append a row for each QC slide whose results are not in the history yet.

    Such results are from this run, from a run that was killed before it came here, or from a time when the slide was no
    QC slide. A slide that failed has a row without counted cells, unless nothing of it could be published. The file is
    written whole, so a killed run loses no earlier row. A history that this version cannot read is left unchanged, with
    an error in the log. The caller must hold the output's lock.

    Args:
        output: The output paths.
        patterns: Shell patterns of the QC slides' ids.
        outcomes: The outcomes of all slides.
        processed_ids: The slides that this run processed.
        provenance: Tool version, models, provider and precision of this run.

    Raises:
        OutputNotWritable: The history cannot be written.
    """
    qc_outcomes = [outcome for outcome in outcomes if _has_results(outcome) and is_qc_slide(outcome.slide, patterns)]
    if not qc_outcomes:
        return
    try:
        history_text = output.qc_history_csv.read_text(encoding="utf-8")
    except FileNotFoundError:
        history_text = csv_text(HISTORY_COLUMNS, ())
    except (OSError, UnicodeDecodeError) as error:
        log.error("%s cannot be read and is left unchanged: %s", output.qc_history_csv, error)  # noqa: TRY400
        return
    try:
        fingerprints = {row["slide"]: row["fingerprint"] for row in parse_rows(history_text)}
    except ValueError as error:
        log.error("%s is left unchanged: %s; move it away to start a new history", output.qc_history_csv, error)  # noqa: TRY400
        return
    now, rows = datetime.now(UTC), []
    for outcome in qc_outcomes:
        previous_fingerprint = fingerprints.get(encode_csv_name(outcome.slide))
        row = _make_row(output, outcome, outcome.slide in processed_ids, previous_fingerprint, now, provenance)
        if row is not None:
            rows.append(row)
    if rows:
        lines = csv_text(HISTORY_COLUMNS, rows).partition("\n")[2]
        write_atomic(
            output.qc_history_csv, (history_text + ("" if history_text.endswith("\n") else "\n") + lines).encode()
        )


def _make_row(
    output: OutputPaths,
    outcome: SlideOutcome,
    analyzed: bool,
    previous_fingerprint: str | None,
    now: datetime,
    provenance: Provenance,
) -> tuple[str, ...] | None:
    """Return the row of one QC slide; None if it adds nothing, or if its slide.json cannot be read."""
    path = output.slide_file(outcome.slide, SLIDE_JSON)
    try:
        record = read_slide_record(path, outcome.slide)
    except RecordInvalid as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            log.error("QC slide %r has no row in the history: %s", outcome.slide, error)  # noqa: TRY400
        return None
    if record.status is not outcome.status or not (analyzed or record.cells_id != previous_fingerprint):
        return None
    if record.reviews:  # what a reader changed says nothing of the tool
        record = find_slide_record(output, outcome.slide, ORIGINAL_PREFIX + SLIDE_JSON) or record
    return history_row(now, outcome.slide, analyzed, record, provenance)


def _has_results(outcome: SlideOutcome) -> bool:
    """Return whether a slide was processed, now or earlier."""
    return outcome.status in {SlideStatus.OK, SlideStatus.PARTIAL, SlideStatus.FAILED}


def is_qc_slide(slide: str, patterns: Sequence[str]) -> bool:
    """Return whether a slide's id matches a pattern, in which ``*`` and ``?`` alone are special."""
    name = unicodedata.normalize("NFC", encode_name(slide))
    return any(fnmatchcase(name, unicodedata.normalize("NFC", p).replace("[", "[[]")) for p in patterns)

"""The tables of all slides: counts.csv, and index.html beside the slides' folders."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from urllib.parse import quote

from wbctool.paths import REPORT_HTML, OutputPaths
from wbctool.report.index import IndexRow, render_index
from wbctool.report.tables import COUNTS_COLUMNS, counts_csv
from wbctool.store.atomic_write import write_atomic
from wbctool.store.slide_record import SlideOutcome, read_record
from wbctool.types.results import FieldFailure, SlideStatus


def write_counts_and_index(layout: OutputPaths, outcomes: Sequence[SlideOutcome]) -> None:
    """Write both, in the order of ``outcomes``."""
    write_atomic(layout.counts_csv, counts_csv(outcome.row for outcome in outcomes).encode())
    write_atomic(layout.index_html, render_index([_make_index_row(layout, outcome) for outcome in outcomes]).encode())


def read_outcomes(layout: OutputPaths) -> list[SlideOutcome] | None:
    """The slides as the last run left them, in its order; None where no run has ended since its start.

    run.json has their ids and counts.csv, line by line, their rows: its first column is not always the id.
    """
    try:
        slides = json.loads(layout.run_json.read_bytes())["slides"]
        reader = csv.reader(io.StringIO(layout.counts_csv.read_bytes().decode(), newline=""))
        header, *rows = reader
        if tuple(header) != COUNTS_COLUMNS or len(rows) != len(slides):
            return None
        outcomes = []
        for entry, row in zip(slides, rows, strict=True):
            record = read_record(layout, entry["slide"])
            outcomes.append(
                SlideOutcome(
                    slide=entry["slide"],
                    status=SlideStatus(row[1]),
                    row=(entry["slide"], *row[1:]),
                    failures=tuple(FieldFailure(**failure) for failure in entry["errors"]),
                    readers=record.readers if record else (),
                    patient=record.patient if record else "",
                    out_of_range=record.out_of_range if record else {},
                )
            )
        return outcomes
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _make_index_row(layout: OutputPaths, outcome: SlideOutcome) -> IndexRow:
    report = layout.slide_file(outcome.slide, REPORT_HTML)
    exists = os.path.isfile(report)  # noqa: PTH113, of a path that is too long Path.is_file raises
    link = quote(report.relative_to(layout.folder).as_posix(), errors="surrogateescape") if exists else ""
    return IndexRow(outcome.row, link, outcome.failures, outcome.readers, outcome.patient, outcome.out_of_range)

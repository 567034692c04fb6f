"""The tables of all slides: counts.csv, and index.html beside the slides' folders."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from urllib.parse import quote

from wbctool.batch.publish import publish
from wbctool.batch.runstate import SlideOutcome, read_state
from wbctool.layout import REPORT, OutputLayout
from wbctool.report.index import IndexRow, render_index
from wbctool.report.tables import COUNTS_COLUMNS, counts_csv
from wbctool.slide_results import FieldFailure, SlideStatus


def publish_overview(layout: OutputLayout, outcomes: Sequence[SlideOutcome]) -> None:
    """Write both, in the order of ``outcomes``."""
    publish(layout.counts, counts_csv(outcome.row for outcome in outcomes).encode())
    publish(layout.index, render_index([_index_row(layout, outcome) for outcome in outcomes]).encode())


def recorded_outcomes(layout: OutputLayout) -> list[SlideOutcome] | None:
    """The slides as the last run left them, in its order; None where no run has ended since its start.

    run.json has their ids and counts.csv, line by line, their rows: its first column is not always the id.
    """
    try:
        slides = json.loads(layout.run.read_bytes())["slides"]
        table = csv.reader(io.StringIO(layout.counts.read_bytes().decode(), newline=""))
        header, *rows = table
        if tuple(header) != COUNTS_COLUMNS or len(rows) != len(slides):
            return None
        outcomes = []
        for entry, row in zip(slides, rows, strict=True):
            state = read_state(layout, entry["slide"])
            outcomes.append(
                SlideOutcome(
                    slide=entry["slide"],
                    status=SlideStatus(row[1]),
                    row=(entry["slide"], *row[1:]),
                    failures=tuple(FieldFailure(**failure) for failure in entry["errors"]),
                    readers=state.readers if state else (),
                    patient=state.patient if state else "",
                    out_of_range=state.out_of_range if state else {},
                )
            )
        return outcomes
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _index_row(layout: OutputLayout, outcome: SlideOutcome) -> IndexRow:
    report = layout.slide_file(outcome.slide, REPORT)
    there = os.path.isfile(report)  # noqa: PTH113, of a path that is too long Path.is_file raises
    link = quote(report.relative_to(layout.folder).as_posix(), errors="surrogateescape") if there else ""
    return IndexRow(outcome.row, link, outcome.failures, outcome.readers, outcome.patient, outcome.out_of_range)

"""The tables of all slides: counts.csv, the same as a workbook, and index.html beside the slides' folders."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from wbctool.errors import RecordInvalid
from wbctool.paths import REPORT_HTML, WORKBOOK_SUFFIX, OutputPaths, is_file
from wbctool.report.csv_tables import COUNTS_COLUMNS, counts_csv
from wbctool.report.index import IndexRow, render_index
from wbctool.report.workbook import counts_workbook
from wbctool.store.atomic_write import write_atomic, write_through_link
from wbctool.store.ended_reviews import EndedReview
from wbctool.store.ownership import WORKBOOK_FILE, is_own
from wbctool.store.run_record import read_run_record
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.store.slide_record import find_slide_record
from wbctool.types.results import SlideStatus


def write_counts_and_index(
    output: OutputPaths,
    outcomes: Sequence[SlideOutcome],
    notices: Sequence[str],
    ended_reviews: Mapping[str, EndedReview],
) -> None:
    """Write the tables; counts.csv and the workbook may be links.

    Args:
        output: The output.
        outcomes: The slides, in order.
        notices: The run's notices, for the index page.
        ended_reviews: The slides whose reviews ended, which the index page marks, by id.

    Raises:
        OutputNotWritable: A table cannot be written.
    """
    rows = [outcome.counts for outcome in outcomes]
    write_through_link(output.counts_csv, counts_csv(rows).encode())
    if (workbook := _find_workbook(output)) is not None:
        write_through_link(workbook, counts_workbook(rows))
    index_rows = [_make_index_row(output, outcome, ended_reviews.get(outcome.slide)) for outcome in outcomes]
    write_atomic(output.index_html, render_index(index_rows, notices).encode())


def read_outcomes(output: OutputPaths) -> list[SlideOutcome] | None:
    """Return the slides as the last run left them, in its order; None if no run has ended since its start.

    The ids are those of run.json and the rows those of counts.csv, line by line: the first column of counts.csv is not
    always the id.
    """
    try:
        slides = read_run_record(output).slides
        header, *rows = csv.reader(io.StringIO(output.counts_csv.read_bytes().decode(), newline=""))
        if slides is None or tuple(header) != COUNTS_COLUMNS or len(rows) != len(slides):
            return None
        outcomes = []
        for slide, row in zip(slides, rows, strict=True):
            counts = {**dict(zip(COUNTS_COLUMNS, row, strict=True)), "slide": slide.slide}
            outcome = SlideOutcome(slide.slide, SlideStatus(counts["status"]), counts, slide.errors)
            record = find_slide_record(output, slide.slide)
            if record is not None:
                of_record = SlideOutcome.from_record(record)
                outcome = replace(of_record, status=outcome.status, counts=counts, failures=outcome.failures)
            outcomes.append(outcome)
        return outcomes
    except (RecordInvalid, OSError, ValueError):
        return None


def _find_workbook(output: OutputPaths) -> Path | None:
    """Return the workbook to write: the one asked for, or that of an earlier run, which would fall behind."""
    path = output.workbook or output.counts_csv.with_suffix(WORKBOOK_SUFFIX)
    return path if output.workbook or is_own(path, WORKBOOK_FILE) else None


def _make_index_row(output: OutputPaths, outcome: SlideOutcome, ended: EndedReview | None) -> IndexRow:
    """Return a slide's row of index.html."""
    report = output.slide_file(outcome.slide, REPORT_HTML)
    has_report = not outcome.is_unpublished and is_file(report)  # of an earlier run, it would pass for this one's
    link = quote(report.relative_to(output.folder).as_posix(), errors="surrogateescape") if has_report else ""
    return IndexRow(
        counts=outcome.counts,
        link=link,
        failures=outcome.failures,
        readers=outcome.readers,
        patient=outcome.patient,
        out_of_range=outcome.out_of_range,
        ended_readers=None if ended is None else ended.readers,
    )

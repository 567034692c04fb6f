"""Keeping the results of QC slides over time."""

from __future__ import annotations

import json
import logging
from collections.abc import Container, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from wbctool.batch.publish import publish
from wbctool.batch.runstate import SlideOutcome
from wbctool.layout import SLIDE, OutputLayout, name_as_text
from wbctool.report.qc_history import HISTORY_COLUMNS, history_row, parse_rows
from wbctool.report.tables import csv_text, spreadsheet_name
from wbctool.slide_results import Provenance, SlideStatus

log = logging.getLogger(__name__)


def note_qc_slides(
    layout: OutputLayout,
    patterns: Sequence[str],
    outcomes: Sequence[SlideOutcome],
    fresh: Container[str],
    provenance: Provenance,
) -> None:
    """Append a line for each QC slide that this run did, and for one whose last results are not on record yet.

    The latter were made by a run that was killed before it came here, or before the slide was a QC slide. A slide that
    was found up to date is not measured anew and adds nothing. fresh: the slides that this run did. Only for the
    holder of the lock; the file is written whole, so a run that is killed here loses no earlier line.

    A slide that failed as a whole has a line of nothing counted, for `wbctool qc` to see; one of which nothing could be
    published has none.

    Raises OutputNotWritable. A history that this version cannot read is left alone, which is logged as an error.
    """
    done = [outcome for outcome in outcomes if _is_known(outcome) and _is_qc(outcome.slide, patterns)]
    if not done:
        return
    try:
        before = layout.qc_history.read_text(encoding="utf-8")
    except FileNotFoundError:
        before = csv_text(HISTORY_COLUMNS, ())
    except (OSError, UnicodeDecodeError) as error:
        log.error("%s cannot be read and is left unchanged: %s", layout.qc_history, error)  # noqa: TRY400
        return
    try:
        recorded = {row["slide"]: row["fingerprint"] for row in parse_rows(before)}
    except ValueError as error:
        log.error("%s is left unchanged: %s; move it away to start a new history", layout.qc_history, error)  # noqa: TRY400
        return
    now, rows = datetime.now(UTC), []
    for outcome in done:
        known = recorded.get(spreadsheet_name(outcome.slide))
        row = _row(layout, outcome, outcome.slide in fresh, known, now, provenance)
        if row is not None:
            rows.append(row)
    if rows:
        lines = csv_text(HISTORY_COLUMNS, rows).partition("\n")[2]
        publish(layout.qc_history, (before + ("" if before.endswith("\n") else "\n") + lines).encode())


def _row(
    layout: OutputLayout,
    outcome: SlideOutcome,
    analysed: bool,
    known: str | None,
    now: datetime,
    provenance: Provenance,
) -> tuple[str, ...] | None:
    """The line of one QC slide; None where it adds nothing. known: the fingerprint that the history has of it.

    A slide.json that cannot be read costs this line alone: the run must come to its end.
    """
    path = layout.slide_file(outcome.slide, SLIDE)
    try:
        state = json.loads(path.read_bytes())
        if state["status"] != outcome.status or not (analysed or state["fingerprint"] != known):
            return None
        return history_row(now, outcome.slide, analysed, state, provenance)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        log.error("QC slide %r has no line in the history: %s cannot be read: %r", outcome.slide, path, error)  # noqa: TRY400
        return None


def _is_known(outcome: SlideOutcome) -> bool:
    return outcome.status in {SlideStatus.OK, SlideStatus.PARTIAL, SlideStatus.FAILED}


def _is_qc(slide: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name_as_text(slide), pattern) for pattern in patterns)

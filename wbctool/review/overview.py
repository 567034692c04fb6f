"""What all commands of `wbctool review` share: readers' initials, and the tables of all slides."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import counts_row
from wbctool.store.counts_table import read_outcomes, write_counts_and_index
from wbctool.store.ended_reviews import find_ended_reviews, update_notices
from wbctool.store.run_record import read_run_record
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.types.results import SlideResult

log = logging.getLogger(__name__)


def validate_initials(text: str) -> str:
    """Return a reader's initials.

    Raises:
        ValueError: They do not print.
    """
    if not text.strip() or not text.isprintable():
        raise ValueError("enter printable initials")
    return text


def publish_overview(output: OutputPaths, applied: Mapping[str, SlideResult]) -> None:
    """Bring counts.csv and index.html up to date.

    Args:
        output: The output.
        applied: The results of the slides that were reviewed now, by id.

    Raises:
        OutputNotWritable: A table cannot be written.
    """
    outcomes = read_outcomes(output)
    if outcomes is None:
        log.warning("the last run did not finish: counts.csv and index.html will follow when the next one does")
        return
    ended = find_ended_reviews(output)
    notices = update_notices(read_run_record(output).notices, ended, [outcome.slide for outcome in outcomes])
    outcomes = [_update_outcome(outcome, applied.get(outcome.slide)) for outcome in outcomes]
    write_counts_and_index(output, outcomes, notices, ended)


def _update_outcome(outcome: SlideOutcome, result: SlideResult | None) -> SlideOutcome:
    """Return a slide's outcome after its review.

    One that waits to be processed again still waits. One that the last run could not process still has no counts: those
    of the review are of an earlier run.
    """
    if result is None or outcome.is_unpublished:
        return outcome
    counts = {**counts_row(result), "slide": outcome.slide, "status": outcome.counts["status"]}
    readers = tuple(dict.fromkeys(review.reader for review in result.reviews))
    return replace(outcome, counts=counts, readers=readers)

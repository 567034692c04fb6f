"""`wbctool review verify`: do the audit log, the table of all slides and the slides' results agree?

The slides are those of counts.csv and run.json, and any other whose results lie in the folder: a slide that has gone
from the input keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wbctool.errors import AuditLogCorrupt, RecordInvalid, ReviewRefused
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.paths import CELLS_CSV, SLIDE_JSON, OutputPaths
from wbctool.report.csv_tables import NOT_ASSESSED, counts_row, empty_row
from wbctool.review.audit_lists import (
    CountsTable,
    Row,
    RunSlides,
    compare_lists,
    find_unlisted_slides,
    read_counts_table,
    read_run_slides,
)
from wbctool.store import audit_log
from wbctool.store.audit_log import AuditEntry, AuditEvent
from wbctool.store.replay import load_original, render_result, replay_reviews
from wbctool.store.run_record import is_results
from wbctool.store.slide_record import RESULT_FILES, SlideRecord, read_slide_record
from wbctool.store.slide_writer import hash_files
from wbctool.text import pluralize
from wbctool.types.results import SlideStatus


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit found.

    Attributes:
        slides: The number of slides.
        reviewed: The number of reviewed slides.
        entries: The number of lines of the audit log.
        last_sha256: The hash of the log's last line, which is worth noting down elsewhere; empty without a log.
        problems: Everything that does not agree, a sentence each.
    """

    slides: int
    reviewed: int
    entries: int
    last_sha256: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Context:
    """What every slide is checked against.

    Attributes:
        output: The paths of the output.
        counts: The table of all slides.
        run: The slides of the last run.
        entries: The lines of the audit log.
    """

    output: OutputPaths
    counts: CountsTable
    run: RunSlides
    entries: tuple[AuditEntry, ...]


def audit_reviews(output: OutputPaths) -> AuditResult:
    """Check the audit log, the table of all slides, and each slide's files against its original and its reviews.

    Raises:
        ReviewRefused: The output holds no results.
    """
    if not is_results(output.folder):
        raise ReviewRefused(f"{output.folder} contains no results of a run")
    try:
        entries = audit_log.read_audit_log(output)
    except AuditLogCorrupt as error:
        return AuditResult(0, 0, 0, "", (str(error),))
    context = _Context(output, read_counts_table(output), read_run_slides(output), entries)
    listed = tuple(dict.fromkeys((*(context.counts.rows or ()), *(context.run.slides or ()))))
    unlisted, unlisted_problems = find_unlisted_slides(output, listed)
    problems = [*context.counts.problems, *context.run.problems]
    problems += [*compare_lists(output, context.counts, context.run), *unlisted_problems]
    n_reviewed, unexplained = 0, {entry.slide for entry in entries}
    for slide in (*listed, *unlisted):
        record = _read_record(output, slide)
        slide_problems = list(_iter_problems(context, slide, record))
        problems += slide_problems
        if isinstance(record, SlideRecord):
            n_reviewed += bool(record.reviews)
        if isinstance(record, SlideRecord) or slide_problems:
            unexplained.discard(slide)
    problems += [
        f"slide {slide!r}: its results are missing, but the audit log has entries for it"
        for slide in sorted(unexplained)
    ]
    return AuditResult(
        slides=len(listed) + len(unlisted),
        reviewed=n_reviewed,
        entries=len(entries),
        last_sha256=entries[-1].sha256 if entries else "",
        problems=tuple(problems),
    )


def _read_record(output: OutputPaths, slide: str) -> SlideRecord | RecordInvalid:
    """Return a slide's record, or why there is none."""
    try:
        return read_slide_record(output.slide_file(slide, SLIDE_JSON), slide)
    except RecordInvalid as error:
        return error


def _iter_problems(context: _Context, slide: str, record: SlideRecord | RecordInvalid) -> Iterator[str]:
    """Yield what is wrong with a slide's row, record, files and reviews."""
    row = context.counts.find_row(slide)  # a missing row is reported elsewhere, or the slide has gone from the input
    has_ended = context.run.slides is not None
    is_failed = (
        row is not None and _is_empty_row(row, SlideStatus.FAILED) and (not has_ended or slide in context.run.failed)
    )
    if isinstance(record, RecordInvalid):
        is_waiting = row is not None and _is_empty_row(row, SlideStatus.WAITING)
        if _has_files(context.output, slide) or not (row is None or is_waiting or is_failed):
            yield f"slide {slide!r}: {SLIDE_JSON} {record.reason}"
        return
    if not (row is None or is_failed or _matches_row(record, row)):
        hint = "" if has_ended else "; the last run did not finish: run again"
        yield f"slide {slide!r}: {context.output.counts_csv.name} does not agree with {SLIDE_JSON}{hint}"
    content, problems = _read_files(context.output, record)
    yield from problems
    yield from _iter_review_problems(context, record, content)


def _matches_row(record: SlideRecord, row: Row) -> bool:
    """Return whether a row is that of a record; a slide that waits has that status and its earlier numbers."""
    return row in (record.counts, {**record.counts, "status": SlideStatus.WAITING.value})


def _is_empty_row(row: Row, status: SlideStatus) -> bool:
    """Return whether a row is that of a slide of which this run published nothing."""
    model_classes = {label for label in DIFFERENTIAL_CLASSES if row[f"{label}_n"] != NOT_ASSESSED}
    if row["nrbc_per_100_wbc"] != NOT_ASSESSED:
        model_classes.add(CellClass.ERYTHROBLAST)
    fields = int(row["fields"]) if row["fields"].isdecimal() else -1
    return row == empty_row(row["slide"], status, fields, model_classes, row["flags"])


def _has_files(output: OutputPaths, slide: str) -> bool:
    """Return whether anything of a slide is published."""
    paths = (output.slide_file(slide, name) for name in (*RESULT_FILES, SLIDE_JSON))
    return any(os.path.exists(path) for path in paths)  # noqa: PTH110, of a path that is too long Path.exists raises


def _read_files(output: OutputPaths, record: SlideRecord) -> tuple[dict[str, bytes], list[str]]:
    """Return a slide's files that can be read, by name, and the problems of all of them."""
    content, unreadable = dict[str, bytes](), dict[str, OSError]()
    for name in RESULT_FILES:
        try:
            content[name] = output.slide_file(record.slide, name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable[name] = error
    hashes = hash_files(content)
    problems = [
        f"slide {record.slide!r}: {name} cannot be read: {error.strerror or error}"
        for name, error in unreadable.items()
    ]
    problems += [
        f"slide {record.slide!r}: {name} does not match its hash in {SLIDE_JSON}"
        for name in RESULT_FILES
        if name not in unreadable and hashes.get(name) != record.files.get(name)
    ]
    return content, problems


def _iter_review_problems(context: _Context, record: SlideRecord, content: Mapping[str, bytes]) -> Iterator[str]:
    """Yield where a slide's reviews and the audit log do not agree. content: the slide's files, by name."""
    slide = record.slide
    entries = [entry for entry in context.entries if entry.slide == slide and entry.event != AuditEvent.CELL]
    review_hashes = [review.entry_sha256 for review in record.reviews]
    if entries and entries[-1].event == AuditEvent.REVIEW and entries[-1].sha256 not in review_hashes:
        yield f"slide {slide!r}: line {entries[-1].number} of the audit log is a review that the results do not contain"
    if missing := set(review_hashes) - {entry.sha256 for entry in entries}:
        yield f"slide {slide!r}: reviewed, but the audit log lacks {pluralize(len(missing), 'review')} of it"
    elif record.reviews:
        first = next(entry for entry in entries if entry.sha256 == review_hashes[0])
        yield from _iter_differences(context.output, record, context.entries, str(first.content["results"]), content)


def _iter_differences(
    output: OutputPaths,
    record: SlideRecord,
    entries: Sequence[AuditEntry],
    reviewed_sha256: str,
    content: Mapping[str, bytes],
) -> Iterator[str]:
    """Yield where files are not what original and log give. reviewed_sha256: of the cells.csv that was reviewed."""
    slide = record.slide
    try:
        original = load_original(output, slide, record)
        result = replay_reviews(original, record.reviews, entries)
    except ReviewRefused as error:
        yield str(error)
        return
    if original.cells_sha256 != reviewed_sha256:
        yield f"slide {slide!r}: the original {CELLS_CSV} is not the one that was reviewed"
    expected = render_result(result, record)
    yield from (
        f"slide {slide!r}: {name} does not match the original and the audit log"
        for name in expected
        if name in content and content[name] != expected[name]
    )
    if record.counts != counts_row(result):
        yield f"slide {slide!r}: the counts in {SLIDE_JSON} do not match the original and the audit log"

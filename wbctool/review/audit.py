"""`wbctool review verify`: do the audit trail, the table of all slides and their results still say the same?

The slides are those of counts.csv and run.json, and any other whose results lie in the folder: one that has gone from
the input keeps them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from wbctool.errors import AuditLogCorrupt, ReviewRefused
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.paths import CELLS_CSV, SLIDE_JSON, OutputPaths
from wbctool.pipeline.discovery import is_results
from wbctool.report.tables import (
    COUNTS_COLUMNS,
    NOT_ASSESSED,
    counts_csv,
    counts_row,
    decode_csv_name,
    empty_row,
)
from wbctool.review.replay import RESULT_FILES, load_original, replay_reviews
from wbctool.store import audit_log
from wbctool.store.audit_log import AuditEntry
from wbctool.store.checksum import verify_checksum
from wbctool.store.slide_record import SlideRecord, read_record
from wbctool.store.slide_writer import hash_files, render_files
from wbctool.text import pluralize
from wbctool.types.results import SlideStatus

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditResult:
    """slides, reviewed: numbers of them. last_sha256: the hash of the trail's last line; worth noting down elsewhere."""

    slides: int
    reviewed: int
    entries: int
    last_sha256: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _CountsTable:
    """counts.csv. rows: by slide, with the ids as they are; None where it cannot be read. problems: with the table."""

    rows: Mapping[str, Row] | None
    problems: tuple[str, ...]

    def find_row(self, slide: str) -> Row | None:
        """None where there is none, or no table."""
        return None if self.rows is None else self.rows.get(slide)


@dataclass(frozen=True, slots=True)
class _RunSlides:
    """run.json. slides: their ids; None where the run has not ended. failed: those that failed as a whole."""

    slides: tuple[str, ...] | None
    failed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def audit_reviews(layout: OutputPaths) -> AuditResult:
    """Check the chain, the table of all slides, and that each slide's files are what the run and the trail make of it.

    Raises ReviewRefused where there are no results.
    """
    if not is_results(layout.folder):
        raise ReviewRefused(f"{layout.folder} contains no results of a run")
    try:
        entries = audit_log.read_audit_log(layout)
    except AuditLogCorrupt as error:
        return AuditResult(0, 0, 0, "", (str(error),))
    counts, run = _read_counts(layout), _read_run(layout)
    listed = tuple(dict.fromkeys((*(counts.rows or ()), *(run.slides or ()))))
    unlisted, unlisted_problems = _find_unlisted(layout, listed)
    slides = [*listed, *unlisted]
    problems = [*counts.problems, *run.problems, *_compare_lists(layout, counts, run), *unlisted_problems]
    records, unexplained = dict[str, SlideRecord](), {entry.slide for entry in entries}
    for slide in slides:
        record = read_record(layout, slide)
        slide_problems = list(_iter_problems(layout, slide, record, counts, run, entries))
        problems += slide_problems
        if record is not None:
            records[slide] = record
        if record is not None or slide_problems:
            unexplained.discard(slide)
    problems += [
        f"slide {slide!r}: its results are missing, but the trail has entries for it" for slide in sorted(unexplained)
    ]
    return AuditResult(
        slides=len(slides),
        reviewed=sum(bool(state.reviews) for state in records.values()),
        entries=len(entries),
        last_sha256=entries[-1].sha256 if entries else "",
        problems=tuple(problems),
    )


# --- the lists of slides ----------------------------------------------------------------------------------------------


def _read_counts(layout: OutputPaths) -> _CountsTable:
    path = layout.counts_csv
    try:
        content = path.read_bytes()
        rows = _parse_rows(layout, content)
    except OSError as error:
        return _CountsTable(None, (f"{path} cannot be read: {error.strerror or error}",))
    except (ValueError, csv.Error) as error:
        return _CountsTable(None, (f"{path} is not a table written by a run: {error}",))
    numbers = Counter(row[0] for row in rows).items()
    problems = [f"slide {slide!r}: {path.name} lists it {number} times" for slide, number in numbers if number > 1]
    if counts_csv(rows).encode() != content:
        problems.append(f"{path} is not in the form that a run writes")
    return _CountsTable({row[0]: row for row in rows}, tuple(problems))


def _parse_rows(layout: OutputPaths, content: bytes) -> list[Row]:
    """The rows of counts.csv with the slides' ids as they are. Raises ValueError, csv.Error."""
    lines = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    if tuple(lines[:1]) != (list(COUNTS_COLUMNS),) or any(len(line) != len(COUNTS_COLUMNS) for line in lines):
        raise ValueError("its columns differ")
    rows = [(decode_csv_name(slide), *values) for slide, *values in lines[1:]]
    for slide, *_ in rows:
        layout.slide_folder(slide)  # raises ValueError for what is no slide's id
    return rows


def _read_run(layout: OutputPaths) -> _RunSlides:
    try:
        content = json.loads(layout.run_json.read_bytes())
        if content["end"] is None and "slides" not in content:
            return _RunSlides(None)
        slides = tuple(str(entry["slide"]) for entry in content["slides"])
        for slide in slides:
            layout.slide_folder(slide)  # raises ValueError for what is no slide's id
        failed = {e["slide"] for e in content["slides"] if any(not failure["field"] for failure in e["errors"])}
        return _RunSlides(slides, frozenset(failed))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _RunSlides(None, problems=(f"{layout.run_json} is not a valid record of a run",))


def _compare_lists(layout: OutputPaths, counts: _CountsTable, run: _RunSlides) -> Iterator[str]:
    if run.slides is None or counts.rows is None:
        return
    table, run_file = layout.counts_csv.name, layout.run_json.name
    run_slides = set(run.slides)
    missing = [slide for slide in run.slides if slide not in counts.rows]
    added = [slide for slide in counts.rows if slide not in run_slides]
    yield from (f"slide {slide!r}: it is in {run_file}, but not in {table}" for slide in missing)
    yield from (f"slide {slide!r}: it is in {table}, but not in {run_file}" for slide in added)
    if not missing and not added and tuple(counts.rows) != run.slides:
        yield f"{layout.counts_csv} lists the slides in a different order from {run_file}"


def _find_unlisted(layout: OutputPaths, listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The slides that have a state and no row any more, and what is wrong with the states that are none."""
    slides, problems = list[str](), list[str]()
    for path in sorted(
        set(layout.folder.rglob(SLIDE_JSON)) - {layout.slide_file(slide, SLIDE_JSON) for slide in listed}
    ):
        try:
            slide = str(verify_checksum(path.read_bytes())["slide"])
            if layout.slide_file(slide, SLIDE_JSON) == path:
                slides.append(slide)
            else:
                problems.append(f"{path} belongs to slide {slide!r}")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
        except (ValueError, KeyError) as error:
            problems.append(f"{path} cannot be trusted: {error}")
    return slides, problems


# --- one slide --------------------------------------------------------------------------------------------------------


def _iter_problems(
    layout: OutputPaths,
    slide: str,
    record: SlideRecord | None,
    counts: _CountsTable,
    run: _RunSlides,
    entries: Sequence[AuditEntry],
) -> Iterator[str]:
    row = counts.find_row(slide)  # what lacks one is told of already, or has gone from the input
    is_failed = (
        row is not None and _is_empty_row(row, SlideStatus.FAILED) and (run.slides is None or slide in run.failed)
    )
    if record is None:
        is_waiting = row is not None and _is_empty_row(row, SlideStatus.WAITING)
        if _has_files(layout, slide) or not (row is None or is_waiting or is_failed):
            yield f"slide {slide!r}: {_explain_missing_record(layout, slide)}"
        return
    if not (row is None or is_failed or _matches_row(record, row)):
        hint = "" if run.slides is not None else "; the last run did not finish: run again"
        yield f"slide {slide!r}: {layout.counts_csv.name} does not agree with {SLIDE_JSON}{hint}"
    yield from _iter_file_problems(layout, slide, record, entries)


def _matches_row(record: SlideRecord, row: Row) -> bool:
    """A slide that waits says so; its earlier numbers stay."""
    return row == record.row or (row[1] == SlideStatus.WAITING and row[2:] == record.row[2:])


def _is_empty_row(row: Row, status: SlideStatus) -> bool:
    """Whether it is the row of a slide of which this run published nothing."""
    values = dict(zip(COUNTS_COLUMNS, row, strict=True))
    model_classes = {label for label in DIFFERENTIAL_CLASSES if values[f"{label}_n"] != NOT_ASSESSED}
    if values["nrbc_per_100_wbc"] != NOT_ASSESSED:
        model_classes.add(CellClass.ERYTHROBLAST)
    fields = int(values["fields"]) if values["fields"].isdecimal() else -1
    return row == empty_row(row[0], status, fields, model_classes, values["flags"])


def _has_files(layout: OutputPaths, slide: str) -> bool:
    """Whether anything is published of a slide."""
    paths = (layout.slide_file(slide, name) for name in (*RESULT_FILES, SLIDE_JSON))
    return any(os.path.exists(path) for path in paths)  # noqa: PTH110, of a path that is too long Path.exists raises


def _explain_missing_record(layout: OutputPaths, slide: str) -> str:
    path = layout.slide_file(slide, SLIDE_JSON)
    try:
        owner = verify_checksum(path.read_bytes()).get("slide")
    except FileNotFoundError:
        return f"{SLIDE_JSON} is missing"
    except OSError as error:
        return f"{SLIDE_JSON} cannot be read: {error.strerror or error}"
    except ValueError as error:
        return f"{SLIDE_JSON} cannot be trusted: {error}"
    return (
        f"{SLIDE_JSON} belongs to slide {owner!r}"
        if owner != slide
        else f"{SLIDE_JSON} cannot be read by this version of wbctool"
    )


def _iter_file_problems(
    layout: OutputPaths, slide: str, record: SlideRecord, entries: Sequence[AuditEntry]
) -> Iterator[str]:
    content, unreadable = dict[str, bytes](), dict[str, OSError]()
    for name in RESULT_FILES:
        try:
            content[name] = layout.slide_file(slide, name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable[name] = error
    hashes = hash_files(content)
    yield from (
        f"slide {slide!r}: {name} cannot be read: {error.strerror or error}" for name, error in unreadable.items()
    )
    yield from (
        f"slide {slide!r}: {name} does not match its hash in {SLIDE_JSON}"
        for name in RESULT_FILES
        if name not in unreadable and hashes.get(name) != record.files.get(name)
    )
    slide_entries = [entry for entry in entries if entry.slide == slide and entry.event != audit_log.CELL]
    review_hashes = [review.entry_sha256 for review in record.reviews]
    if slide_entries and slide_entries[-1].event == audit_log.REVIEW and slide_entries[-1].sha256 not in review_hashes:
        yield f"slide {slide!r}: line {slide_entries[-1].number} of the trail is a review that the results do not contain"
    if missing := set(review_hashes) - {entry.sha256 for entry in slide_entries}:
        yield f"slide {slide!r}: reviewed, but the trail lacks {pluralize(len(missing), 'review')} of it"
    elif record.reviews:
        first = next(entry for entry in slide_entries if entry.sha256 == review_hashes[0])
        yield from _iter_differences(layout, slide, record, entries, str(first.content["results"]), content)


def _iter_differences(
    layout: OutputPaths,
    slide: str,
    record: SlideRecord,
    entries: Sequence[AuditEntry],
    reviewed_sha256: str,
    content: Mapping[str, bytes],
) -> Iterator[str]:
    """Where a slide's files are not what its originals and the trail give. reviewed_sha256: the hash of the cells.csv seen.

    content: of those files that could be read.
    """
    try:
        original = load_original(layout, slide, record)
        result = replay_reviews(original, record.reviews, entries)
    except ReviewRefused as error:
        yield str(error)
        return
    if original.record.files[CELLS_CSV] != reviewed_sha256:
        yield f"slide {slide!r}: the original {CELLS_CSV} is not the one that was reviewed"
    expected = render_files(result, record.provenance)
    yield from (
        f"slide {slide!r}: {name} does not match the original and the trail"
        for name in content
        if content[name] != expected[name]
    )
    if record.row != counts_row(result):
        yield f"slide {slide!r}: the counts in {SLIDE_JSON} do not match the original and the trail"

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

from wbctool.batch import trail
from wbctool.batch.runstate import SlideState, read_state
from wbctool.batch.seal import unseal
from wbctool.batch.slide_files import file_hashes, render_files
from wbctool.batch.slides import is_results
from wbctool.batch.trail import Entry
from wbctool.errors import ReviewRefused, TrailBroken
from wbctool.lab.rebuild import FILES, read_original, reviewed_result
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.layout import CELLS, SLIDE, OutputLayout
from wbctool.report.tables import (
    COUNTS_COLUMNS,
    NOT_ASSESSED,
    counts_csv,
    counts_row,
    empty_row,
    name_of_cell,
)
from wbctool.slide_results import SlideStatus
from wbctool.wording import number_of

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """slides, reviewed: numbers of them. last: the hash of the trail's last line; worth noting down elsewhere."""

    slides: int
    reviewed: int
    entries: int
    last: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Counts:
    """counts.csv. rows: by slide, with the ids as they are; None where it cannot be read. problems: with the table."""

    rows: Mapping[str, Row] | None
    problems: tuple[str, ...]

    def row(self, slide: str) -> Row | None:
        """None where there is none, or no table."""
        return None if self.rows is None else self.rows.get(slide)


@dataclass(frozen=True, slots=True)
class _Run:
    """run.json. slides: their ids; None where the run has not ended. failed: those that failed as a whole."""

    slides: tuple[str, ...] | None
    failed: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def verify_reviews(layout: OutputLayout) -> Verification:
    """Check the chain, the table of all slides, and that each slide's files are what the run and the trail make of it.

    Raises ReviewRefused where there are no results.
    """
    if not is_results(layout.folder):
        raise ReviewRefused(f"{layout.folder} contains no results of a run")
    try:
        entries = trail.read_trail(layout)
    except TrailBroken as error:
        return Verification(0, 0, 0, "", (str(error),))
    counts, run = _read_counts(layout), _read_run(layout)
    listed = tuple(dict.fromkeys((*(counts.rows or ()), *(run.slides or ()))))
    unlisted, unread = _unlisted(layout, listed)
    slides = [*listed, *unlisted]
    problems = [*counts.problems, *run.problems, *_differing_lists(layout, counts, run), *unread]
    states, untold = dict[str, SlideState](), {entry.slide for entry in entries}
    for slide in slides:
        state = read_state(layout, slide)
        found = list(_problems(layout, slide, state, counts, run, entries))
        problems += found
        if state is not None:
            states[slide] = state
        if state is not None or found:
            untold.discard(slide)
    problems += [
        f"slide {slide!r}: its results are missing, but the trail has entries for it" for slide in sorted(untold)
    ]
    return Verification(
        slides=len(slides),
        reviewed=sum(bool(state.reviews) for state in states.values()),
        entries=len(entries),
        last=entries[-1].sha256 if entries else "",
        problems=tuple(problems),
    )


# --- the lists of slides ----------------------------------------------------------------------------------------------


def _read_counts(layout: OutputLayout) -> _Counts:
    path = layout.counts
    try:
        content = path.read_bytes()
        rows = _rows(layout, content)
    except OSError as error:
        return _Counts(None, (f"{path} cannot be read: {error.strerror or error}",))
    except (ValueError, csv.Error) as error:
        return _Counts(None, (f"{path} is not a table written by a run: {error}",))
    numbers = Counter(row[0] for row in rows).items()
    problems = [f"slide {slide!r}: {path.name} lists it {number} times" for slide, number in numbers if number > 1]
    if counts_csv(rows).encode() != content:
        problems.append(f"{path} is not in the form that a run writes")
    return _Counts({row[0]: row for row in rows}, tuple(problems))


def _rows(layout: OutputLayout, content: bytes) -> list[Row]:
    """The rows of counts.csv with the slides' ids as they are. Raises ValueError, csv.Error."""
    lines = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    if tuple(lines[:1]) != (list(COUNTS_COLUMNS),) or any(len(line) != len(COUNTS_COLUMNS) for line in lines):
        raise ValueError("its columns differ")
    rows = [(name_of_cell(slide), *values) for slide, *values in lines[1:]]
    for slide, *_ in rows:
        layout.slide_folder(slide)  # raises ValueError for what is no slide's id
    return rows


def _read_run(layout: OutputLayout) -> _Run:
    try:
        content = json.loads(layout.run.read_bytes())
        if content["end"] is None and "slides" not in content:
            return _Run(None)
        slides = tuple(str(entry["slide"]) for entry in content["slides"])
        for slide in slides:
            layout.slide_folder(slide)  # raises ValueError for what is no slide's id
        failed = {e["slide"] for e in content["slides"] if any(not failure["field"] for failure in e["errors"])}
        return _Run(slides, frozenset(failed))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _Run(None, problems=(f"{layout.run} is not a valid record of a run",))


def _differing_lists(layout: OutputLayout, counts: _Counts, run: _Run) -> Iterator[str]:
    if run.slides is None or counts.rows is None:
        return
    table, manifest = layout.counts.name, layout.run.name
    known = set(run.slides)
    missing = [slide for slide in run.slides if slide not in counts.rows]
    added = [slide for slide in counts.rows if slide not in known]
    yield from (f"slide {slide!r}: it is in {manifest}, but not in {table}" for slide in missing)
    yield from (f"slide {slide!r}: it is in {table}, but not in {manifest}" for slide in added)
    if not missing and not added and tuple(counts.rows) != run.slides:
        yield f"{layout.counts} lists the slides in a different order from {manifest}"


def _unlisted(layout: OutputLayout, listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The slides that have a state and no row any more, and what is wrong with the states that are none."""
    slides, problems = list[str](), list[str]()
    for path in sorted(set(layout.folder.rglob(SLIDE)) - {layout.slide_file(slide, SLIDE) for slide in listed}):
        try:
            slide = str(unseal(path.read_bytes())["slide"])
            if layout.slide_file(slide, SLIDE) == path:
                slides.append(slide)
            else:
                problems.append(f"{path} belongs to slide {slide!r}")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror or error}")
        except (ValueError, KeyError) as error:
            problems.append(f"{path} cannot be trusted: {error}")
    return slides, problems


# --- one slide --------------------------------------------------------------------------------------------------------


def _problems(
    layout: OutputLayout, slide: str, state: SlideState | None, counts: _Counts, run: _Run, entries: Sequence[Entry]
) -> Iterator[str]:
    row = counts.row(slide)  # what lacks one is told of already, or has gone from the input
    failed = row is not None and _is_empty(row, SlideStatus.FAILED) and (run.slides is None or slide in run.failed)
    if state is None:
        waits = row is not None and _is_empty(row, SlideStatus.WAITING)
        if _has_files(layout, slide) or not (row is None or waits or failed):
            yield f"slide {slide!r}: {_why_no_state(layout, slide)}"
        return
    if not (row is None or failed or _is_row_of(state, row)):
        again = "" if run.slides is not None else "; the last run did not finish: run again"
        yield f"slide {slide!r}: {layout.counts.name} does not agree with {SLIDE}{again}"
    yield from _file_problems(layout, slide, state, entries)


def _is_row_of(state: SlideState, row: Row) -> bool:
    """A slide that waits says so; its earlier numbers stay."""
    return row == state.row or (row[1] == SlideStatus.WAITING and row[2:] == state.row[2:])


def _is_empty(row: Row, status: SlideStatus) -> bool:
    """Whether it is the row of a slide of which this run published nothing."""
    values = dict(zip(COUNTS_COLUMNS, row, strict=True))
    known = {label for label in DIFFERENTIAL_CLASSES if values[f"{label}_n"] != NOT_ASSESSED}
    if values["nrbc_per_100_wbc"] != NOT_ASSESSED:
        known.add(CellClass.ERYTHROBLAST)
    fields = int(values["fields"]) if values["fields"].isdecimal() else -1
    return row == empty_row(row[0], status, fields, known, values["flags"])


def _has_files(layout: OutputLayout, slide: str) -> bool:
    """Whether anything is published of a slide."""
    paths = (layout.slide_file(slide, name) for name in (*FILES, SLIDE))
    return any(os.path.exists(path) for path in paths)  # noqa: PTH110, of a path that is too long Path.exists raises


def _why_no_state(layout: OutputLayout, slide: str) -> str:
    path = layout.slide_file(slide, SLIDE)
    try:
        of = unseal(path.read_bytes()).get("slide")
    except FileNotFoundError:
        return f"{SLIDE} is missing"
    except OSError as error:
        return f"{SLIDE} cannot be read: {error.strerror or error}"
    except ValueError as error:
        return f"{SLIDE} cannot be trusted: {error}"
    return f"{SLIDE} belongs to slide {of!r}" if of != slide else f"{SLIDE} cannot be read by this version of wbctool"


def _file_problems(layout: OutputLayout, slide: str, state: SlideState, entries: Sequence[Entry]) -> Iterator[str]:
    content, unreadable = dict[str, bytes](), dict[str, OSError]()
    for name in FILES:
        try:
            content[name] = layout.slide_file(slide, name).read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            unreadable[name] = error
    found = file_hashes(content)
    yield from (
        f"slide {slide!r}: {name} cannot be read: {error.strerror or error}" for name, error in unreadable.items()
    )
    yield from (
        f"slide {slide!r}: {name} does not match its hash in {SLIDE}"
        for name in FILES
        if name not in unreadable and found.get(name) != state.files.get(name)
    )
    of_slide = [entry for entry in entries if entry.slide == slide and entry.event != trail.CELL]
    named = [review.entry for review in state.reviews]
    if of_slide and of_slide[-1].event == trail.REVIEW and of_slide[-1].sha256 not in named:
        yield f"slide {slide!r}: line {of_slide[-1].number} of the trail is a review that the results do not contain"
    if missing := set(named) - {entry.sha256 for entry in of_slide}:
        yield f"slide {slide!r}: reviewed, but the trail lacks {number_of(len(missing), 'review')} of it"
    elif state.reviews:
        first = next(entry for entry in of_slide if entry.sha256 == named[0])
        yield from _differences(layout, slide, state, entries, str(first.content["results"]), content)


def _differences(
    layout: OutputLayout,
    slide: str,
    state: SlideState,
    entries: Sequence[Entry],
    reviewed: str,
    content: Mapping[str, bytes],
) -> Iterator[str]:
    """Where a slide's files are not what its originals and the trail give. reviewed: the hash of the cells.csv seen.

    content: of those files that could be read.
    """
    try:
        original = read_original(layout, slide, state)
        result = reviewed_result(original, state.reviews, entries)
    except ReviewRefused as error:
        yield str(error)
        return
    if original.state.files[CELLS] != reviewed:
        yield f"slide {slide!r}: the original {CELLS} is not the one that was reviewed"
    wanted = render_files(result, state.provenance)
    yield from (
        f"slide {slide!r}: {name} does not match the original and the trail"
        for name in content
        if content[name] != wanted[name]
    )
    if state.row != counts_row(result):
        yield f"slide {slide!r}: the counts in {SLIDE} do not match the original and the trail"

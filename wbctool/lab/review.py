"""A reader's review of a slide: checked against the results it was made for, applied, and vouched for by the trail.

The order of writing: what the run wrote is set aside, the trail says who moves what, then the tables and the report
change, and slide.json last. A review that is killed on its way is applied again with the same file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wbctool.batch import trail
from wbctool.batch.overview import publish_overview, recorded_outcomes
from wbctool.batch.publish import hold, publish
from wbctool.batch.runstate import SlideOutcome, SlideState, publish_slide, read_state
from wbctool.batch.slide_files import file_hashes, render_files
from wbctool.batch.slides import is_results
from wbctool.errors import ReviewRefused
from wbctool.lab.rebuild import read_original, reviewed_result
from wbctool.layout import ORIGINAL_PREFIX, SLIDE, OutputLayout
from wbctool.report.facts import slide_facts
from wbctool.report.places import ARTEFACT, REVIEW, place_of
from wbctool.report.tables import cells_csv, counts_row
from wbctool.slide_results import Provenance, Review, SlideResult

log = logging.getLogger(__name__)


def _a_name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("enter printable initials")
    return text


def _a_text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004, pydantic's validators raise ValueError
    return value


class CellChange(BaseModel):
    """One cell of review.json. row: counts from 1 in cells.csv. from, to: places; the same where it is a comment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(ge=1, strict=True)
    field: str
    cell: int = Field(strict=True)
    source: str = Field(alias="from")
    to: str
    comment: str = Field("", max_length=1000)


class ReviewFile(BaseModel):
    """review.json as the report saves it. results: the SHA-256 of the cells.csv that the reader saw."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["wbctool-review/1"] = Field(alias="schema")
    slide: str
    results: str = Field(pattern=r"^[0-9a-f]{64}$")
    reader: Annotated[str, Field(min_length=1, max_length=20), AfterValidator(_a_name)]
    time: Annotated[AwareDatetime, BeforeValidator(_a_text)]
    comment: str = Field("", max_length=4000)
    cells: tuple[CellChange, ...]


def read_review(path: Path) -> ReviewFile:
    """Raises ReviewRefused where it is no review."""
    try:
        return ReviewFile.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise ReviewRefused(f"cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        cause = first["msg"].removeprefix("Value error, ")
        raise ReviewRefused(f"not a review saved by a wbctool report: {place}: {cause}") from error
    except (ValueError, RecursionError) as error:
        raise ReviewRefused(f"not a review saved by a wbctool report: {error}") from error


def apply_reviews(layout: OutputLayout, paths: Sequence[Path]) -> Iterator[tuple[Path, SlideResult | ReviewRefused]]:
    """Apply each review that fits, in order, and say of each what came of it; then counts.csv and index.html follow.

    Raises OutputLocked where a run holds the output, TrailBroken, OutputNotWritable.
    """
    if not is_results(layout.folder):
        raise ReviewRefused(f"{layout.folder} contains no results of a run")
    with hold(layout):
        done: dict[str, SlideResult] = {}
        try:
            for path in paths:
                try:
                    result = _apply(layout, read_review(path))
                    done[result.slide] = result
                    yield path, result
                except ReviewRefused as error:
                    yield path, error
        finally:
            if done:
                _publish_overview(layout, done)


def _apply(layout: OutputLayout, review: ReviewFile) -> SlideResult:
    state = last_state(layout, review.slide)
    original = read_original(layout, review.slide, state)
    current = reviewed_result(original, state.reviews, trail.read_trail(layout))
    if any((known.reader, known.time) == (review.reader, _when(review)) for known in state.reviews):
        raise ReviewRefused(f"slide {review.slide!r}: this review has already been applied")
    _check(review, current, state.provenance)
    if not state.reviews:
        for name, content in original.files.items():
            publish(layout.slide_file(review.slide, ORIGINAL_PREFIX + name), content)
    head = _append(layout, review)
    result = reviewed_result(original, (*state.reviews, head), trail.read_trail(layout))
    files = render_files(result, state.provenance)
    new = replace(
        state, row=counts_row(result), files=file_hashes(files), reviews=result.reviews, facts=slide_facts(result)
    )
    fields = json.loads(original.files[SLIDE])["fields"]
    publish_slide(layout, review.slide, files, new, tuple((field["name"], field["sha256"]) for field in fields))
    return result


def last_state(layout: OutputLayout, slide: str) -> SlideState:
    """The state of a slide. Raises ReviewRefused where there is none."""
    state = read_state(layout, slide)
    if state is None:
        raise ReviewRefused(f"there are no results for slide {slide!r} from this version of wbctool")
    return state


def _check(review: ReviewFile, current: SlideResult, provenance: Provenance) -> None:
    table = cells_csv(current.slide, current.cells, provenance.classes)
    now = hashlib.sha256(table.encode()).hexdigest()
    if review.results != now:
        raise ReviewRefused(
            f"slide {review.slide!r}: the review was made for different results (cells.csv {review.results[:12]}…, now "
            f"{now[:12]}…); open the report again"
        )
    rows = [change.row for change in review.cells]
    if len(set(rows)) < len(rows):
        raise ReviewRefused(f"slide {review.slide!r}: the review lists a cell twice")
    for change in review.cells:
        problem = _problem(change, current, provenance)
        if problem:
            raise ReviewRefused(f"slide {review.slide!r}, cell {change.cell} of {change.field!r}: {problem}")


def _problem(change: CellChange, current: SlideResult, provenance: Provenance) -> str:
    if change.row > len(current.cells):
        return "there is no such cell"
    cell = current.cells[change.row - 1]
    if (cell.field, cell.index) != (change.field, change.cell):
        return f"line {change.row} of cells.csv is a different cell"
    if place_of(cell.prediction) != change.source:
        return f"the review moves it from {change.source!r}, but it is in {place_of(cell.prediction)!r}"
    if change.to not in (REVIEW, ARTEFACT, *provenance.classes):
        return f"the model does not know the class {change.to!r}"
    return ""


def _append(layout: OutputLayout, review: ReviewFile) -> Review:
    """A line in the trail for each cell, then the review's own: its hash, in slide.json, vouches for all."""
    time = _when(review)
    moved = sum(change.source != change.to for change in review.cells)
    who = {"slide": review.slide, "reader": review.reader, "time": time}
    cells = [{"event": trail.CELL, **who, **change.model_dump(by_alias=True)} for change in review.cells]
    own = {
        "event": trail.REVIEW,
        **who,
        "applied": trail.now(),
        "results": review.results,
        "cells": len(cells),
        "moved": moved,
        "comment": review.comment,
    }
    *_, entry = trail.append_entries(layout, [*cells, own])
    return Review(review.reader, time, moved, review.comment, entry.sha256)


def _when(review: ReviewFile) -> str:
    return review.time.isoformat(timespec="milliseconds")


def _publish_overview(layout: OutputLayout, done: Mapping[str, SlideResult]) -> None:
    outcomes = recorded_outcomes(layout)
    if outcomes is None:
        log.warning("the last run did not finish: counts.csv and index.html will follow when the next one does")
        return
    publish_overview(layout, [_reviewed(outcome, done.get(outcome.slide)) for outcome in outcomes])


def _reviewed(outcome: SlideOutcome, result: SlideResult | None) -> SlideOutcome:
    """A slide that waits to be done again says so still."""
    if result is None:
        return outcome
    slide, status, *_ = outcome.row
    readers = tuple(dict.fromkeys(review.reader for review in result.reviews))
    return replace(outcome, row=(slide, status, *counts_row(result)[2:]), readers=readers)

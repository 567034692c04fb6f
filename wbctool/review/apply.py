"""`wbctool review apply`: a reader's review of a slide is checked against the slide's results and applied to them.

First the run's own files are set aside, then the audit log gets its lines, then the tables and the report change, and
slide.json last. A review that is killed in between is applied again with the same file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from wbctool.errors import ReviewRefused, list_problems
from wbctool.paths import CELLS_CSV, ORIGINAL_PREFIX, OutputPaths
from wbctool.report.categories import ARTIFACT, IN_REVIEW, category_of
from wbctool.report.csv_tables import hash_cells
from wbctool.review.overview import publish_overview, validate_initials
from wbctool.store import audit_log
from wbctool.store.atomic_write import write_atomic
from wbctool.store.audit_log import AuditEvent
from wbctool.store.fingerprint import Fingerprints
from wbctool.store.lock import lock_output
from wbctool.store.replay import load_original, replay_reviews
from wbctool.store.run_record import is_results
from wbctool.store.slide_record import SlideRecord, find_slide_record
from wbctool.store.slide_writer import render_slide_files, write_slide_files
from wbctool.types.results import Provenance, Review, SlideResult


def _validate_text(value: object) -> object:
    """Refuse a number in place of a text."""
    if not isinstance(value, str):
        raise ValueError("is no text")  # noqa: TRY004, pydantic's validators raise ValueError
    return value


class CellReclassification(BaseModel):
    """One cell of review.json.

    Attributes:
        row: Its line in cells.csv, from 1.
        field: The image's name.
        cell: Its number within the image, from 1.
        from_: The category it is in.
        to: The category the reader moves it to; the same if the reader only comments on it.
        comment: The reader's comment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int = Field(ge=1, strict=True)
    field: str
    cell: int = Field(strict=True)
    from_: str = Field(alias="from")
    to: str
    comment: str = Field("", max_length=1000)


class ReviewFile(BaseModel):
    """review.json as the report saves it.

    Attributes:
        schema_: The schema of the file.
        slide: The slide's id.
        results: The SHA-256 of the cells that the reader saw, as wbctool.report.csv_tables.hash_cells gives it.
        reader: The reader's initials.
        time: When the review was saved, by the reader's clock.
        comment: The reader's comment on the slide.
        cells: The cells that the reader moved or commented on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["wbctool-review/1"] = Field(alias="schema")
    slide: str
    results: str = Field(pattern=r"^[0-9a-f]{64}$")
    reader: Annotated[str, Field(min_length=1, max_length=20), AfterValidator(validate_initials)]
    time: Annotated[AwareDatetime, BeforeValidator(_validate_text)]
    comment: str = Field("", max_length=4000)
    cells: tuple[CellReclassification, ...]


@dataclass(frozen=True, slots=True)
class Superseded:
    """A review that is not applied, because its reader saved a later one of the same results.

    Attributes:
        by: The file of the later review, which has all that the reader wants.
    """

    by: Path


def read_review(path: Path) -> ReviewFile:
    """Read a review.json.

    Raises:
        ReviewRefused: The file cannot be read or is no review; it names the place in the file.
    """
    try:
        return ReviewFile.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise ReviewRefused(f"cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        location, cause = list_problems(error)[0]
        raise ReviewRefused(f"not a review saved by a wbctool report: {location or 'the file'}: {cause}") from error
    except (ValueError, RecursionError) as error:
        raise ReviewRefused(f"not a review saved by a wbctool report: {error}") from error


def list_review_files(paths: Sequence[Path]) -> list[Path]:
    """Return review files; in place of a folder its .json files, those saved first in front.

    Args:
        paths: Files and folders.

    Raises:
        ReviewRefused: A folder cannot be listed or has no such file.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        try:
            found = [file for file in sorted(path.iterdir()) if file.suffix.lower() == ".json"]
        except OSError as error:
            raise ReviewRefused(f"{path} cannot be listed: {error.strerror or error}") from error
        if not found:
            raise ReviewRefused(f"{path} has no .json file")
        files += sorted(found, key=_time_or_latest)
    return files


def _time_or_latest(path: Path) -> datetime:
    """Return when a review was saved; the latest time for what is no review, which is then refused."""
    try:
        return read_review(path).time
    except ReviewRefused:
        return datetime.max.replace(tzinfo=UTC)


def apply_reviews(
    output: OutputPaths, paths: Sequence[Path]
) -> Iterator[tuple[Path, SlideResult | Superseded | ReviewRefused]]:
    """Apply each review that fits, in order; then bring counts.csv and index.html up to date.

    Of several reviews of one slide by one reader, made for the same results, only the one saved last is applied.

    Args:
        output: The output.
        paths: The review files.

    Yields:
        Each file with the slide's result after the review, with the later review that supersedes it, or with the reason
        why it is refused.

    Raises:
        ReviewRefused: The output holds no results.
        OutputLocked: Another process holds the output.
        AuditLogCorrupt: The audit log is damaged.
        OutputNotWritable: A file cannot be written.
    """
    if not is_results(output.folder):
        raise ReviewRefused(f"{output.folder} contains no results of a run")
    with lock_output(output, "review apply"):
        applied: dict[str, SlideResult] = {}
        try:
            superseded = _find_superseded(output, paths)
            for path in paths:
                if path in superseded:
                    yield path, superseded[path]
                    continue
                try:
                    result = _apply_review(output, read_review(path))
                    applied[result.slide] = result
                    yield path, result
                except ReviewRefused as error:
                    yield path, error
        finally:
            if applied:
                publish_overview(output, applied)


def _find_superseded(output: OutputPaths, paths: Sequence[Path]) -> dict[Path, Superseded]:
    """Return the reviews after which their reader saved another one of the same slide and the same results.

    Those that are applied already are left out.
    """
    reviews: dict[Path, ReviewFile] = {}
    for path in paths:
        with suppress(ReviewRefused):  # it is refused in its turn
            review = read_review(path)
            if not _is_applied(review, _load_record(output, review.slide)):
                reviews[path] = review
    latest = {
        (review.slide, review.reader, review.results): path
        for path, review in sorted(reviews.items(), key=lambda item: item[1].time)
    }
    later = {path: latest[review.slide, review.reader, review.results] for path, review in reviews.items()}
    return {path: Superseded(by) for path, by in later.items() if by != path}


def _is_applied(review: ReviewFile, record: SlideRecord) -> bool:
    """Return whether a slide's results have a review already."""
    return any((known.reader, known.time) == (review.reader, _review_time(review)) for known in record.reviews)


def _apply_review(output: OutputPaths, review: ReviewFile) -> SlideResult:
    """Apply one review."""
    record = _load_record(output, review.slide)
    original = load_original(output, review.slide, record)
    current = replay_reviews(original, record.reviews, audit_log.read_audit_log(output))
    if _is_applied(review, record):
        raise ReviewRefused(f"slide {review.slide!r}: this review has already been applied")
    results = hash_cells(current, record.provenance.classes)
    _check_applicable(review, current, record, results)
    if not record.reviews:
        for name, content in original.files.items():
            write_atomic(output.slide_file(review.slide, ORIGINAL_PREFIX + name), content)
    head = _append_to_log(output, review, results)
    result = replay_reviews(original, (*record.reviews, head), audit_log.read_audit_log(output))
    rendered = render_slide_files(result, record, Fingerprints.of_record(record))
    write_slide_files(output, rendered.files, rendered.record)
    return result


def _load_record(output: OutputPaths, slide: str) -> SlideRecord:
    """Return a slide's record; raises ReviewRefused if it has no valid one."""
    record = find_slide_record(output, slide)
    if record is None:
        raise ReviewRefused(f"there are no results for slide {slide!r} from this version of wbctool")
    return record


def _check_applicable(review: ReviewFile, current: SlideResult, record: SlideRecord, results: str) -> None:
    """Refuse a review that does not fit the slide's current results.

    Args:
        review: The review, which names the results by their hash or, if there are cells, by that of the file cells.csv.
        current: The slide with all reviews so far.
        record: The slide's record.
        results: The hash of the current results (:func:`hash_cells`).
    """
    if review.results != results and not (current.cells and review.results == record.files[CELLS_CSV]):
        raise ReviewRefused(
            f"slide {review.slide!r}: the review was made for different results (cells {review.results[:12]}…, now "
            f"{results[:12]}…); open the report again"
        )
    rows = [change.row for change in review.cells]
    if len(set(rows)) < len(rows):
        raise ReviewRefused(f"slide {review.slide!r}: the review lists a cell twice")
    for change in review.cells:
        problem = _find_problem(change, current, record.provenance)
        if problem:
            raise ReviewRefused(f"slide {review.slide!r}, cell {change.cell} of {change.field!r}: {problem}")


def _find_problem(change: CellReclassification, current: SlideResult, provenance: Provenance) -> str:
    """Say why a change does not fit the slide's current results; empty if it does."""
    if change.row > len(current.cells):
        return "there is no such cell"
    cell = current.cells[change.row - 1]
    if (cell.field, cell.index) != (change.field, change.cell):
        return f"line {change.row} of cells.csv is a different cell"
    if category_of(cell.prediction) != change.from_:
        return f"the review moves it from {change.from_!r}, but it is in {category_of(cell.prediction)!r}"
    if change.to not in (IN_REVIEW, ARTIFACT, *provenance.classes):
        return f"the model does not know the class {change.to!r}"
    return ""


def _append_to_log(output: OutputPaths, review: ReviewFile, results: str) -> Review:
    """Append a line for each cell and then the review's own, whose hash in slide.json covers all of them."""
    time = _review_time(review)
    n_reclassified = sum(change.from_ != change.to for change in review.cells)
    common = {"slide": review.slide, "reader": review.reader, "time": time}
    cells = [{"event": AuditEvent.CELL, **common, **change.model_dump(by_alias=True)} for change in review.cells]
    review_entry = {
        "event": AuditEvent.REVIEW,
        **common,
        "applied": audit_log.utc_timestamp(),
        "results": results,
        "cells": len(cells),
        "moved": n_reclassified,
        "comment": review.comment,
    }
    *_, entry = audit_log.append_entries(output, [*cells, review_entry])
    return Review(review.reader, time, n_reclassified, review.comment, entry.sha256)


def _review_time(review: ReviewFile) -> str:
    """Return the review's time as results have it."""
    return review.time.isoformat(timespec="milliseconds")

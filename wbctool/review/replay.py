"""A slide's result as a run published it, read back from its files, and counted anew with what readers moved."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from wbctool.errors import ReviewRefused
from wbctool.labels import CellClass
from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, ORIGINAL_PREFIX, REPORT_HTML, SLIDE_JSON, OutputPaths
from wbctool.report.disposition import category_of, reclassify
from wbctool.report.reading import read_report_page
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.differential import FLAGS, count_cells
from wbctool.store.audit_log import AuditEntry
from wbctool.store.reader import read_cell
from wbctool.store.slide_facts import parse_metadata, parse_quality
from wbctool.store.slide_record import SlideRecord, read_record
from wbctool.store.slide_writer import hash_files, render_files
from wbctool.types.cells import Cell, Differential
from wbctool.types.results import Review, ReviewNote, SlideResult

RESULT_FILES = (DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML)
_FIELD_FLAGS = frozenset(flag for flag in FLAGS if flag.endswith("_fields"))  # what no reader's move of a cell changes


@dataclass(frozen=True, slots=True)
class OriginalResult:
    """What a run published. files: the content of FILES, and of slide.json. record: of that slide.json.

    result: read back from them; it gives the same files again.
    """

    files: Mapping[str, bytes]
    record: SlideRecord
    result: SlideResult


def load_original(layout: OutputPaths, slide: str, record: SlideRecord) -> OriginalResult:
    """What reviews of a slide start from: what the first of them set aside, else what is in place.

    record: the slide's last one. Raises ReviewRefused where the files are not those that the run wrote.
    """
    prefix = ORIGINAL_PREFIX if record.reviews else ""
    original_record = read_record(layout, slide, prefix + SLIDE_JSON)
    if original_record is None or original_record.reviews:
        raise ReviewRefused(f"slide {slide!r}: {prefix}{SLIDE_JSON} was not written by a run")
    files = {name: _read_verified(layout, slide, name, original_record.files.get(name)) for name in RESULT_FILES}
    result = _read_result(slide, files, original_record)
    if hash_files(render_files(result, original_record.provenance)) != original_record.files:
        raise ReviewRefused(f"slide {slide!r}: the results are from another version of wbctool; run it again first")
    files[SLIDE_JSON] = layout.slide_file(slide, prefix + SLIDE_JSON).read_bytes()
    return OriginalResult(files, original_record, result)


def replay_reviews(original: OriginalResult, reviews: Sequence[Review], entries: Sequence[AuditEntry]) -> SlideResult:
    """The result once the moves of ``reviews`` are made. entries: of the trail, in order; those of the reviews count.

    Raises ReviewRefused where a move starts from elsewhere than where the cell is.
    """
    result, model_classes = original.result, original.record.provenance.classes
    cells, notes = list(result.cells), dict[int, ReviewNote]()
    for entry in _iter_cell_entries(reviews, entries):
        row, category = entry.content["row"], entry.content["to"]
        tool_prediction = result.cells[row - 1].prediction
        if category_of(cells[row - 1].prediction) != entry.content["from"]:
            raise ReviewRefused(
                f"slide {result.slide!r}: line {entry.number} of the trail moves a cell from a class it is not in"
            )
        cells[row - 1] = replace(cells[row - 1], prediction=reclassify(tool_prediction, category, model_classes))
        note = notes.get(row, ReviewNote(row, category_of(tool_prediction)))
        notes[row] = replace(note, comment=entry.content["comment"])
    return replace(
        result,
        cells=tuple(cells),
        differential=_recount(cells, original.record),
        reviews=tuple(reviews),
        notes=tuple(notes[row] for row in sorted(notes)),
    )


def _iter_cell_entries(reviews: Sequence[Review], entries: Sequence[AuditEntry]) -> Iterator[AuditEntry]:
    """The lines of the reviews' cells: each review's come right before its own."""
    review_hashes = {review.entry_sha256 for review in reviews}
    for review_entry in entries:
        if review_entry.sha256 in review_hashes:
            yield from entries[review_entry.number - 1 - review_entry.content["cells"] : review_entry.number - 1]


def _read_verified(layout: OutputPaths, slide: str, name: str, sha256: str | None) -> bytes:
    """A file as the run wrote it. A review that was killed before its end may have replaced it already."""
    for candidate in (name, ORIGINAL_PREFIX + name):
        with suppress(OSError):
            content = layout.slide_file(slide, candidate).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise ReviewRefused(f"slide {slide!r}: {name} is missing, or was changed after the run wrote it")


def _read_result(slide: str, files: Mapping[str, bytes], record: SlideRecord) -> SlideResult:
    page = read_report_page(files[REPORT_HTML].decode())
    table = csv.DictReader(io.StringIO(files[CELLS_CSV].decode(), newline=""))
    cells = tuple(
        _read_cell(line, attention, record.provenance.classes)
        for line, attention in zip(table, page.attention, strict=True)
    )
    return SlideResult(
        slide=slide,
        status=record.status,
        fields=record.fields,
        failures=record.failures,
        cells=cells,
        thumbnails=page.pictures,
        differential=_recount(cells, record),
        field_thumbnails=page.field_pictures,
        metadata=parse_metadata(record.details),
        quality=parse_quality(record.details),
    )


def _read_cell(line: Mapping[str, str], cam: bytes, classes: Sequence[CellClass]) -> Cell:
    cell = read_cell(line, classes)
    return replace(cell, prediction=replace(cell.prediction, cam=cam))


def _recount(cells: Sequence[Cell], record: SlideRecord) -> Differential:
    flags = _FIELD_FLAGS & set(record.row[COUNTS_COLUMNS.index("flags")].split(";"))
    failed = sum(bool(failure.field) for failure in record.failures)
    predictions = [cell.prediction for cell in cells]
    counted = count_cells(predictions, record.provenance.classes, record.limits, flags, record.fields - failed)
    metadata = parse_metadata(record.details)
    return add_absolute_counts(counted, metadata.analyser_wbc if metadata else None, record.limits)

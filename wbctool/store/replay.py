"""A slide's result as a run published it, read back from its files, and counted again with what readers changed."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from wbctool.errors import ReviewRefused
from wbctool.paths import CELLS_CSV, ORIGINAL_PREFIX, REPORT_HTML, SLIDE_JSON, THUMBNAILS_ZIP, OutputPaths
from wbctool.report.categories import category_of, reclassify
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.differential import FLAGS, count_cells
from wbctool.store.audit_log import AuditEntry
from wbctool.store.reader import read_cell
from wbctool.store.slide_record import SlideRecord, find_slide_record
from wbctool.store.slide_writer import ORIGINAL_FILES, hash_files, render_files
from wbctool.store.thumbnail_archive import Thumbnails, unpack_thumbnails
from wbctool.types.cells import Cell, Differential
from wbctool.types.results import CellThumbnails, Review, ReviewNote, SlideResult

_FIELD_FLAGS = frozenset(flag for flag in FLAGS if flag.endswith("_fields"))  # those that no reclassified cell changes


@dataclass(frozen=True, slots=True)
class OriginalResult:
    """What a run published of a slide.

    Attributes:
        files: The content of each file that a review replaces, by name.
        record: The slide's record.
        result: The result, read back from the files.
    """

    files: Mapping[str, bytes]
    record: SlideRecord
    result: SlideResult


def load_original(layout: OutputPaths, slide: str, record: SlideRecord) -> OriginalResult:
    """Return what reviews of a slide start from: what the first review set aside, or what is in place.

    Args:
        layout: The output.
        slide: The slide's id.
        record: The slide's current record.

    Raises:
        ReviewRefused: The files are not those that the run wrote.
    """
    prefix = ORIGINAL_PREFIX if record.reviews else ""
    original_record = find_slide_record(layout, slide, prefix + SLIDE_JSON)
    if original_record is None or original_record.reviews:
        raise ReviewRefused(f"slide {slide!r}: {prefix}{SLIDE_JSON} was not written by a run")
    files = {name: _read_verified(layout, slide, name, sha256) for name, sha256 in original_record.files.items()}
    result = _read_result(files, original_record)
    expected = hash_files(render_result(result, original_record))
    if any(original_record.files.get(name) != sha256 for name, sha256 in expected.items()):
        raise ReviewRefused(f"slide {slide!r}: the results are from another version of wbctool; run it again first")
    files[SLIDE_JSON] = layout.slide_file(slide, prefix + SLIDE_JSON).read_bytes()
    return OriginalResult({name: files[name] for name in ORIGINAL_FILES}, original_record, result)


def render_result(result: SlideResult, original: SlideRecord) -> dict[str, bytes]:
    """Return the files of a result that can be rendered byte for byte again, by name.

    A report without stored thumbnails, of schema version 1, cannot: its hash alone vouches for it.

    Args:
        result: The original result, or that result with reviews.
        original: The record that the run wrote.
    """
    files = render_files(result, original.provenance, not original.has_thumbnails)
    return files if original.has_thumbnails else {name: files[name] for name in files if name != REPORT_HTML}


def replay_reviews(original: OriginalResult, reviews: Sequence[Review], entries: Sequence[AuditEntry]) -> SlideResult:
    """Return the result with the changes of its reviews.

    Args:
        original: What the run published.
        reviews: The reviews, in order.
        entries: The audit log; the lines of other reviews are passed over.

    Raises:
        ReviewRefused: A line moves a cell from a class that the cell is not in.
    """
    result, model_classes = original.result, original.record.provenance.classes
    cells, notes = list(result.cells), dict[int, ReviewNote]()
    for entry in _iter_cell_entries(reviews, entries):
        row, category = entry.content["row"], entry.content["to"]
        tool_prediction = result.cells[row - 1].prediction
        if category_of(cells[row - 1].prediction) != entry.content["from"]:
            raise ReviewRefused(
                f"slide {result.slide!r}: line {entry.number} of the audit log moves a cell from a class it is not in"
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
    """Yield the lines of the reviews' cells, which come right before the line of their review."""
    review_hashes = {review.entry_sha256 for review in reviews}
    for review_entry in entries:
        if review_entry.sha256 in review_hashes:
            yield from entries[review_entry.number - 1 - review_entry.content["cells"] : review_entry.number - 1]


def _read_verified(layout: OutputPaths, slide: str, name: str, sha256: str) -> bytes:
    """Return a file as the run wrote it; a review that was killed may have replaced it already."""
    for candidate in (name, ORIGINAL_PREFIX + name):
        with suppress(OSError):
            content = layout.slide_file(slide, candidate).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise ReviewRefused(f"slide {slide!r}: {name} is missing, or was changed after the run wrote it")


def _read_result(files: Mapping[str, bytes], record: SlideRecord) -> SlideResult:
    """Return the result that a run published as these files and this record."""
    table = csv.DictReader(io.StringIO(files[CELLS_CSV].decode(), newline=""))
    cells = [read_cell(line, record.provenance.classes) for line in table]
    if record.has_thumbnails:
        thumbnails = unpack_thumbnails(files[THUMBNAILS_ZIP], len(cells))
    else:
        thumbnails = Thumbnails((CellThumbnails(),) * len(cells), (b"",) * len(cells), ())
    cells = [
        replace(cell, prediction=replace(cell.prediction, cam=cam))
        for cell, cam in zip(cells, thumbnails.cams, strict=True)
    ]
    return SlideResult(
        slide=record.slide,
        status=record.status,
        fields=len(record.fields),
        failures=record.errors,
        cells=tuple(cells),
        thumbnails=thumbnails.cells,
        differential=_recount(cells, record),
        field_thumbnails=thumbnails.fields,
        metadata=record.metadata,
        quality=record.quality,
    )


def _recount(cells: Sequence[Cell], record: SlideRecord) -> Differential:
    """Count cells with the limits of a slide's record."""
    flags = _FIELD_FLAGS & set(record.counts["flags"].split(";"))
    n_failed = sum(bool(failure.field) for failure in record.errors)
    predictions = [cell.prediction for cell in cells]
    n_read = len(record.fields) - n_failed
    counted = count_cells(predictions, record.provenance.classes, record.limits, flags, n_read)
    analyser_wbc = record.metadata.analyser_wbc if record.metadata else None
    return add_absolute_counts(counted, analyser_wbc, record.limits)

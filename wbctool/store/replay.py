"""A slide's cells as a run found them, read back from its files, and counted again with what readers changed.

The cells are those of the run; the limits, the reference ranges and the line of slides.csv are those of the slide's
current record, which a later run may have changed.
"""

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
from wbctool.report.csv_tables import hash_cells, split_flags
from wbctool.report.render import renderer_sha256
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.differential import CELL_FLAGS, count_cells
from wbctool.store.audit_log import AuditEntry, AuditEvent
from wbctool.store.reader import find_later_columns, read_cell
from wbctool.store.slide_record import SlideRecord, find_slide_record
from wbctool.store.slide_writer import ORIGINAL_FILES, hash_files, render_files
from wbctool.store.thumbnail_archive import Thumbnails, unpack_thumbnails
from wbctool.types.cells import Cell
from wbctool.types.differential import Differential, Flag
from wbctool.types.results import CellThumbnails, Review, ReviewNote, SlideResult, count_failed_fields


@dataclass(frozen=True, slots=True)
class OriginalResult:
    """What a run found on a slide, before any review.

    Attributes:
        files: The content of each file that a review replaces, by name, as the run published it.
        record: The slide's current record, with the limits and the metadata that hold.
        result: The result with those, read back from the files.
    """

    files: Mapping[str, bytes]
    record: SlideRecord
    result: SlideResult

    @property
    def cells_sha256(self) -> str:
        """The SHA-256 of the run's cells, which the first review names."""
        return hash_cells(self.result, self.record.provenance.classes)


def load_original(output: OutputPaths, slide: str, record: SlideRecord) -> OriginalResult:
    """Return what reviews of a slide start from: what the first review set aside, or what is in place.

    Args:
        output: The output.
        slide: The slide's id.
        record: The slide's current record.

    Raises:
        ReviewRefused: The files are not those that the run wrote.
    """
    original_record, files = read_original_files(output, record)
    original_result = read_result(files, original_record)
    expected = hash_files(render_result(original_result, original_record))
    if any(original_record.files.get(name) != sha256 for name, sha256 in expected.items()):
        raise ReviewRefused(f"slide {slide!r}: the results are from another version of wbctool; run it again first")
    result = read_result(files, record) if record.reviews else original_result
    return OriginalResult({name: files[name] for name in ORIGINAL_FILES}, record, result)


def read_original_files(output: OutputPaths, record: SlideRecord) -> tuple[SlideRecord, dict[str, bytes]]:
    """Return the record that a run wrote of a slide's cells, and the content of its files and of slide.json, by name.

    Args:
        output: The output.
        record: The slide's current record.

    Raises:
        ReviewRefused: The files are not those that the run wrote.
    """
    slide, prefix = record.slide, ORIGINAL_PREFIX if record.reviews else ""
    original = find_slide_record(output, slide, prefix + SLIDE_JSON)
    if original is None or original.reviews:
        raise ReviewRefused(f"slide {slide!r}: {prefix}{SLIDE_JSON} was not written by a run")
    files = {name: _read_original_file(output, slide, name, sha256) for name, sha256 in original.files.items()}
    files[SLIDE_JSON] = output.slide_file(slide, prefix + SLIDE_JSON).read_bytes()
    return original, files


def render_result(result: SlideResult, record: SlideRecord) -> dict[str, bytes]:
    """Return the files of a result that can be rendered byte for byte again, by name.

    A report that another version rendered, or whose thumbnails are not stored (schema version 1), cannot: its hash
    alone vouches for it.

    Args:
        result: The original result, or that result with reviews.
        record: The record of the files that it is compared with.
    """
    files = render_files(result, record.provenance, not record.has_thumbnails)
    if record.has_thumbnails and record.renderer == renderer_sha256():
        return files
    return {name: content for name, content in files.items() if name != REPORT_HTML}


def find_reviews(entries: Sequence[AuditEntry], slide: str, record: SlideRecord | None) -> tuple[Review, ...]:
    """Return the reviews of a slide that hold, in order.

    They are those of its record and any that is in the log alone, because it was killed before it changed the results,
    or because the record is damaged.

    Args:
        entries: The audit log.
        slide: The slide's id.
        record: The slide's record; None if it has none that is valid.

    Raises:
        ReviewRefused: The log lacks a review of the record.
    """
    own = [entry for entry in entries if entry.slide == slide and entry.event != AuditEvent.CELL]
    published = {review.entry_sha256 for review in record.reviews} if record else set()
    if missing := published - {entry.sha256 for entry in own}:
        raise ReviewRefused(f"slide {slide!r}: the audit log lacks reviews of it, such as {min(missing)}")
    last_settled = max(
        (entry.number for entry in own if entry.sha256 in published or entry.event == AuditEvent.REVIEW_ENDED),
        default=0,
    )
    held = {  # a review that was killed was applied again with the same file
        (entry.content["reader"], entry.content["time"]): entry
        for entry in own
        if entry.event == AuditEvent.REVIEW and (entry.sha256 in published or entry.number > last_settled)
    }
    return tuple(
        Review(
            reader=entry.content["reader"],
            time=entry.content["time"],
            n_reclassified=entry.content["moved"],
            comment=entry.content["comment"],
            entry_sha256=entry.sha256,
        )
        for entry in sorted(held.values(), key=lambda entry: entry.number)
    )


def reviewed_cells_sha256(reviews: Sequence[Review], entries: Sequence[AuditEntry]) -> str:
    """Return the SHA-256 of the cells that the first of some reviews was made of, which are the run's own."""
    return next(str(entry.content["results"]) for entry in entries if entry.sha256 == reviews[0].entry_sha256)


def replay_reviews(original: OriginalResult, reviews: Sequence[Review], entries: Sequence[AuditEntry]) -> SlideResult:
    """Return the result with the changes of its reviews.

    Args:
        original: What the run found.
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


def _read_original_file(output: OutputPaths, slide: str, name: str, sha256: str) -> bytes:
    """Return a file as the run wrote it; a review that was killed may have replaced it already."""
    for candidate in (name, ORIGINAL_PREFIX + name):
        with suppress(OSError):
            content = output.slide_file(slide, candidate).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise ReviewRefused(f"slide {slide!r}: {name} is missing, or was changed after the run wrote it")


def read_result(files: Mapping[str, bytes], record: SlideRecord) -> SlideResult:
    """Return the result that the files of a run and a record give.

    Args:
        files: The run's own cells.csv and, if the record has it, thumbnails.zip.
        record: Its limits and metadata hold; its reviews are passed over.
    """
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
        familiarity=record.familiarity,
        scan=record.scan,
        later_columns=find_later_columns(table.fieldnames or ()),
        field_hashes=record.field_hashes,
    )


def _recount(cells: Sequence[Cell], record: SlideRecord) -> Differential:
    """Count cells with the limits of a slide's record."""
    recorded = split_flags(record.counts["flags"])
    flags = [flag for flag in Flag if flag in recorded and flag not in CELL_FLAGS]
    predictions = [cell.prediction for cell in cells]
    n_read = len(record.fields) - count_failed_fields(record.errors)
    counted = count_cells(predictions, record.provenance.classes, record.limits, flags, n_read)
    analyser_wbc = record.metadata.analyser_wbc if record.metadata else None
    return add_absolute_counts(counted, analyser_wbc, record.limits)

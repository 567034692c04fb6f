"""A slide's result as a run published it, read back from its files, and counted anew with what readers moved."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from wbctool.batch.results import read_cell
from wbctool.batch.runstate import SlideState, read_state
from wbctool.batch.slide_files import file_hashes, render_files
from wbctool.batch.trail import Entry
from wbctool.errors import ReviewRefused
from wbctool.labels import CellClass
from wbctool.layout import CELLS, DIFFERENTIAL, ORIGINAL_PREFIX, REPORT, SLIDE, OutputLayout
from wbctool.records import Cell, Differential
from wbctool.report.facts import metadata_of, quality_of
from wbctool.report.places import moved, place_of
from wbctool.report.reading import read_report_page
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.slide_results import CellNote, Review, SlideResult
from wbctool.stages.absolute import with_absolute_counts
from wbctool.stages.differential import FLAGS, count_cells

FILES = (DIFFERENTIAL, CELLS, REPORT)
_OF_FIELDS = frozenset(flag for flag in FLAGS if flag.endswith("_fields"))  # what no reader's move of a cell changes


@dataclass(frozen=True, slots=True)
class Original:
    """What a run published. files: the content of FILES, and of slide.json. state: of that slide.json.

    result: read back from them; it gives the same files again.
    """

    files: Mapping[str, bytes]
    state: SlideState
    result: SlideResult


def read_original(layout: OutputLayout, slide: str, state: SlideState) -> Original:
    """What reviews of a slide start from: what the first of them set aside, else what is in place.

    state: the slide's last one. Raises ReviewRefused where the files are not those that the run wrote.
    """
    kept = ORIGINAL_PREFIX if state.reviews else ""
    before = read_state(layout, slide, kept + SLIDE)
    if before is None or before.reviews:
        raise ReviewRefused(f"slide {slide!r}: {kept}{SLIDE} was not written by a run")
    files = {name: _read(layout, slide, name, before.files.get(name)) for name in FILES}
    result = _read_result(slide, files, before)
    if file_hashes(render_files(result, before.provenance)) != before.files:
        raise ReviewRefused(f"slide {slide!r}: the results are from another version of wbctool; run it again first")
    files[SLIDE] = layout.slide_file(slide, kept + SLIDE).read_bytes()
    return Original(files, before, result)


def reviewed_result(original: Original, reviews: Sequence[Review], entries: Sequence[Entry]) -> SlideResult:
    """The result once the moves of ``reviews`` are made. entries: of the trail, in order; those of the reviews count.

    Raises ReviewRefused where a move starts from elsewhere than where the cell is.
    """
    result, known = original.result, original.state.provenance.classes
    cells, notes = list(result.cells), dict[int, CellNote]()
    for entry in _cell_entries(reviews, entries):
        row, place = entry.content["row"], entry.content["to"]
        tools = result.cells[row - 1].prediction
        if place_of(cells[row - 1].prediction) != entry.content["from"]:
            raise ReviewRefused(
                f"slide {result.slide!r}: line {entry.number} of the trail moves a cell from a class it is not in"
            )
        cells[row - 1] = replace(cells[row - 1], prediction=moved(tools, place, known))
        before = notes.get(row, CellNote(row, place_of(tools)))
        notes[row] = replace(before, comment=entry.content["comment"])
    return replace(
        result,
        cells=tuple(cells),
        differential=_count(cells, original.state),
        reviews=tuple(reviews),
        notes=tuple(notes[row] for row in sorted(notes)),
    )


def _cell_entries(reviews: Sequence[Review], entries: Sequence[Entry]) -> Iterator[Entry]:
    """The lines of the reviews' cells: each review's come right before its own."""
    of_reviews = {review.entry for review in reviews}
    for own in entries:
        if own.sha256 in of_reviews:
            yield from entries[own.number - 1 - own.content["cells"] : own.number - 1]


def _read(layout: OutputLayout, slide: str, name: str, sha256: str | None) -> bytes:
    """A file as the run wrote it. A review that was killed before its end may have replaced it already."""
    for candidate in (name, ORIGINAL_PREFIX + name):
        with suppress(OSError):
            content = layout.slide_file(slide, candidate).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                return content
    raise ReviewRefused(f"slide {slide!r}: {name} is missing, or was changed after the run wrote it")


def _read_result(slide: str, files: Mapping[str, bytes], state: SlideState) -> SlideResult:
    page = read_report_page(files[REPORT].decode())
    table = csv.DictReader(io.StringIO(files[CELLS].decode(), newline=""))
    cells = tuple(
        _read_cell(line, attention, state.provenance.classes)
        for line, attention in zip(table, page.attention, strict=True)
    )
    return SlideResult(
        slide=slide,
        status=state.status,
        fields=state.fields,
        failures=state.failures,
        cells=cells,
        pictures=page.pictures,
        differential=_count(cells, state),
        field_pictures=page.field_pictures,
        metadata=metadata_of(state.facts),
        quality=quality_of(state.facts),
    )


def _read_cell(line: Mapping[str, str], attention: bytes, classes: Sequence[CellClass]) -> Cell:
    cell = read_cell(line, classes)
    return replace(cell, prediction=replace(cell.prediction, attention=attention))


def _count(cells: Sequence[Cell], state: SlideState) -> Differential:
    flags = _OF_FIELDS & set(state.row[COUNTS_COLUMNS.index("flags")].split(";"))
    failed = sum(bool(failure.field) for failure in state.failures)
    predictions = [cell.prediction for cell in cells]
    counted = count_cells(predictions, state.provenance.classes, state.limits, flags, state.fields - failed)
    metadata = metadata_of(state.facts)
    return with_absolute_counts(counted, metadata.analyser_wbc if metadata else None, state.limits)

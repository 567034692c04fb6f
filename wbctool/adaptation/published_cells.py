"""Labeled cells of published results: what a reader said on a label page, or did in reviews.

The pixels come from the original fields, whose hashes are checked; thumbnails are too small and compressed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.adaptation.candidates import load_run_result
from wbctool.adaptation.cells import AdaptationCell, Label
from wbctool.adaptation.labels_file import Labels, NoClass, Purpose
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import decode_rgb
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.report.categories import ARTIFACT, IN_REVIEW, category_of
from wbctool.report.csv_tables import hash_cells
from wbctool.store.reader import read_published_slides
from wbctool.store.slide_record import SlideRecord, find_slide_record
from wbctool.text import pluralize
from wbctool.types.cells import Box, Field
from wbctool.types.progress import Progress
from wbctool.types.results import PublishedSlide

_MAX_NAMED = 5
_GONE, _UNREADABLE = "their fields are gone or have changed", "their fields cannot be decoded"
_OF_SCANS = "they are of whole-slide scans, whose cells cannot teach yet"


@dataclass(frozen=True, slots=True)
class _LabelledBox:
    """A labeled cell before its pixels are read."""

    slide: str
    field: str
    field_sha256: str
    box: Box
    label: Label
    is_named: bool
    is_random: bool


def read_published_cells(
    layout: OutputPaths, labels: Sequence[Labels], margin: float, progress: Progress, slides: Path | None = None
) -> tuple[list[AdaptationCell], list[str]]:
    """Read the cells of results that readers have labeled.

    Args:
        layout: The results.
        labels: What readers said of these results on label pages. Without any, the applied reviews count.
        margin: Side of a crop, relative to the box.
        progress: Wraps the fields.
        slides: Where the slides lie now; None if they are where the run found them.

    Returns:
        The cells, field by field, and notes on what was left out.

    Raises:
        LabelledDataInvalid: Nothing is labeled, or none of the fields is there.
        RecordInvalid, ResultsInvalid, ReviewRefused, SlidesNotFound: Results or slides cannot be read.
    """
    boxes = list(_iter_named(labels)) if labels else list(_iter_reviewed(layout))
    if not boxes:
        raise LabelledDataInvalid(f"{layout.counts_csv}: no cell is labeled: no review was applied to its slides")
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    by_field: dict[tuple[str, str, str], list[_LabelledBox]] = defaultdict(list)
    records = _find_records(layout, boxes)
    colors = {(slide, q.field): q.colors for slide, record in records.items() for q in record.quality}
    for box in boxes:
        if box.slide in records and records[box.slide].scan is not None:
            left_out[_OF_SCANS][box.slide] += 1
        else:
            by_field[box.slide, box.field, box.field_sha256].append(box)
    images = FieldImages.find(layout, slides)
    cells: list[AdaptationCell] = []
    for (slide, name, sha256), members in progress(list(by_field.items()), len(by_field), "reading fields"):
        content = images.read(slide, name, sha256)
        if content is None:
            left_out[_GONE][f"{slide}/{name}"] += len(members)
            continue
        try:
            rgb = decode_rgb(content, math.inf)
        except FieldUnreadable:  # by another version of a decoder
            left_out[_UNREADABLE][f"{slide}/{name}"] += len(members)
            continue
        crops = crop_cells(Field(name, rgb), [member.box for member in members], margin)
        for member, crop in zip(members, crops, strict=True):
            origin = f"slide {slide!r}, field {name!r}, at {member.box.x}, {member.box.y}"
            cells.append(
                AdaptationCell(
                    member.label, slide, origin, crop, member.is_named, member.is_random, colors.get((slide, name))
                )
            )
    notes = [_describe_left_out(reason, n_by_place) for reason, n_by_place in left_out.items()]
    if not cells:
        raise LabelledDataInvalid("; ".join([f"{layout.counts_csv}: no labeled cell can be read", *notes]))
    return cells, notes


def find_labelled_results(layouts: Sequence[OutputPaths], labels: Labels, path: Path) -> OutputPaths:
    """Find the results whose cells a labels file is about, by the hash of each slide's cells.

    Args:
        layouts: The results that were given.
        labels: The content of the labels file.
        path: The labels file, for the message.

    Raises:
        LabelledDataInvalid: They are of none of these results, or a later run has replaced the cells.
    """
    problem = "none of the results is given beside it"
    for layout in layouts:
        hashes = {slide: _original_cells_sha256(layout, slide) for slide in labels.results}
        changed = [slide for slide, sha256 in labels.results.items() if hashes[slide] != sha256]
        if not changed:
            return layout
        if any(hashes.values()):
            problem = f"the cells of slide {changed[0]!r} in {layout.counts_csv} are not those that were labeled"
    raise LabelledDataInvalid(f"{path}: {problem}")


def list_review_readers(layout: OutputPaths) -> list[str]:
    """List who reviewed the slides of results."""
    slides = [slide.result.slide for slide in read_published_slides(layout) if isinstance(slide, PublishedSlide)]
    records = [find_slide_record(layout, slide) for slide in slides]
    return [reader for record in records if record is not None for reader in record.readers]


def _original_cells_sha256(layout: OutputPaths, slide: str) -> str | None:
    """Return the hash of the cells that the run found on a slide; None if there is no such slide."""
    if find_slide_record(layout, slide) is None:
        return None
    result, record = load_run_result(layout, slide)
    return hash_cells(result, record.provenance.classes)


def _find_records(layout: OutputPaths, boxes: Iterable[_LabelledBox]) -> dict[str, SlideRecord]:
    """Return the records of the slides of some cells, as far as there are any."""
    records = [find_slide_record(layout, slide) for slide in dict.fromkeys(box.slide for box in boxes)]
    return {record.slide: record for record in records if record is not None}


def _describe_left_out(reason: str, n_by_place: Mapping[str, int]) -> str:
    """Return a note on labeled cells that were left out, with the first slides or fields."""
    more = f" and {len(n_by_place) - _MAX_NAMED} more" if len(n_by_place) > _MAX_NAMED else ""
    named = ", ".join(list(n_by_place)[:_MAX_NAMED])
    return f"{pluralize(sum(n_by_place.values()), 'labeled cell')} left out, because {reason}: {named}{more}"


def _iter_named(labels: Sequence[Labels]) -> Iterator[_LabelledBox]:
    """Yield the cells that readers named on label pages."""
    for page in labels:
        for cell in page.cells:
            if cell.label is not NoClass.CANNOT_TELL:
                label = "" if isinstance(cell.label, NoClass) else cell.label
                is_random = cell.chosen is Purpose.MEASURE
                yield _LabelledBox(cell.slide, cell.field, cell.field_sha256, cell.box, label, True, is_random)


def _iter_reviewed(layout: OutputPaths) -> Iterator[_LabelledBox]:
    """Yield the cells of reviewed slides that are in a class now, or were called artifacts."""
    for slide in read_published_slides(layout):
        if not isinstance(slide, PublishedSlide) or not slide.reviewed:
            continue
        run_result, record = load_run_result(layout, slide.result.slide)
        hashes = {field.name: field.sha256 for field in record.fields}
        for original, cell in zip(run_result.cells, slide.result.cells, strict=True):
            category = category_of(cell.prediction)
            if category == IN_REVIEW:
                continue
            is_named = category != category_of(original.prediction)
            label = "" if category == ARTIFACT else CellClass(category)
            sha256 = hashes[cell.field] or ""
            yield _LabelledBox(record.slide, cell.field, sha256, cell.detection.box, label, is_named, False)

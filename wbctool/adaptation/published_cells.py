"""Labeled cells of published results: what a reader said on a label page, or did in reviews.

The pixels come from the original fields, whose hashes are checked; thumbnails are too small and compressed. A label
holds for a cell of its slide and field, whatever a later run by other models says of it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wbctool.adaptation.candidates import load_run_result
from wbctool.adaptation.cells import AdaptationCell, Label
from wbctool.adaptation.labels_file import NoClass, Purpose
from wbctool.adaptation.named_cells import CellIndex, NamedCell
from wbctool.errors import FieldUnreadable, LabelledDataInvalid, ResultsInvalid
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import decode_rgb
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.report.categories import ARTIFACT, IN_REVIEW, category_of
from wbctool.store.reader import read_published_slides
from wbctool.store.slide_record import SlideRecord, find_slide_record
from wbctool.text import pluralize
from wbctool.types.cells import Box, Field
from wbctool.types.progress import Progress
from wbctool.types.results import PublishedSlide

_MIN_SHARE_INSIDE = 0.5  # of a box, in its field: the detector's boxes lie in it whole
_MAX_NAMED = 5
_GONE, _UNREADABLE = "their fields are gone or have changed", "their fields cannot be decoded"
_NOT_IN_RESULTS = "their fields are not in the results"
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
    source: str  # who labeled it, and where


@dataclass(frozen=True, slots=True)
class PublishedCells:
    """The labeled cells of results.

    Attributes:
        cells: The cells, field by field; the group of each is its slide.
        labeled_by: Who labeled them.
        notes: What was left out.
        field_hashes: The SHA-256 of the fields with cells, for each slide with a labeled cell.
    """

    cells: tuple[AdaptationCell, ...]
    labeled_by: tuple[str, ...]
    notes: tuple[str, ...]
    field_hashes: Mapping[str, frozenset[str]]


def read_published_cells(
    output: OutputPaths, named: Sequence[NamedCell], margin: float, progress: Progress, slides: Path | None = None
) -> PublishedCells:
    """Read the cells of results that readers have labeled.

    Args:
        output: The results.
        named: What readers said on label pages, of these results or others. For cells that they say nothing of, the
            applied reviews count.
        margin: Side of a crop, relative to the box.
        progress: Wraps the fields.
        slides: Where the slides lie now. What is not there is read from where the run found it; None for there alone.

    Raises:
        LabelledDataInvalid: Nothing is labeled, none of the fields is there, or a box does not lie in its field.
        RecordInvalid, ResultsInvalid, ReviewRefused, SlidesNotFound: Results or slides cannot be read.
    """
    records = _find_records(output, (cell.cell.slide for cell in named))
    own = [cell for cell in named if cell.cell.field_sha256 in _hashes(records.get(cell.cell.slide))]
    reviewed = list(_iter_reviewed(output, CellIndex(cell.cell for cell in named)))
    boxes = [*_iter_named(own, records), *reviewed]
    if not boxes:
        raise LabelledDataInvalid(f"{output.counts_csv}: no cell is labeled: no review was applied to its slides")
    records |= _find_records(output, (box.slide for box in reviewed))
    cells, left_out = _crop_boxes(boxes, records, _find_images(output, slides), margin, progress)
    notes = [_describe_left_out(reason, n_by_place) for reason, n_by_place in left_out.items()]
    if not cells:
        raise LabelledDataInvalid("; ".join([f"{output.counts_csv}: no labeled cell can be read", *notes]))
    reviewers = [reader for slide in dict.fromkeys(box.slide for box in reviewed) for reader in records[slide].readers]
    labeled_by = tuple(dict.fromkeys([*(cell.reader for cell in own), *reviewers]))
    hashes = {slide: _hash_fields_with_cells(output, slide) for slide in dict.fromkeys(cell.group for cell in cells)}
    return PublishedCells(tuple(cells), labeled_by, tuple(notes), hashes)


def find_cells_elsewhere(outputs: Sequence[OutputPaths], named: Sequence[NamedCell]) -> list[str]:
    """Find the named cells whose fields are in none of the results.

    Args:
        outputs: The results that were given.
        named: The cells.

    Returns:
        A note for each labels file with such cells.

    Raises:
        LabelledDataInvalid: All cells of a labels file are of other results.
    """
    fields: set[tuple[str, str]] = set()
    for output in outputs:
        for slide, record in _find_records(output, (cell.cell.slide for cell in named)).items():
            fields |= {(slide, sha256) for sha256 in _hashes(record)}
    elsewhere: dict[Path, Counter[str]] = defaultdict(Counter)
    n_of_file = Counter(cell.path for cell in named)
    for cell in named:
        if (cell.cell.slide, cell.cell.field_sha256) not in fields:
            elsewhere[cell.path][f"{cell.cell.slide}/{cell.cell.field}"] += 1
    for path, n_by_field in elsewhere.items():
        if sum(n_by_field.values()) == n_of_file[path]:
            raise LabelledDataInvalid(
                f"{path}: none of the fields of its cells is in the results that are given beside it, such as "
                f"{next(iter(n_by_field))}"
            )
    return [f"{path}: {_describe_left_out(_NOT_IN_RESULTS, n_by_field)}" for path, n_by_field in elsewhere.items()]


def _find_records(output: OutputPaths, slides: Iterable[str]) -> dict[str, SlideRecord]:
    """Return the records of slides, as far as there are any."""
    records = [find_slide_record(output, slide) for slide in dict.fromkeys(slides)]
    return {record.slide: record for record in records if record is not None}


def _hashes(record: SlideRecord | None) -> frozenset[str]:
    """Return the SHA-256 of a slide's fields."""
    return frozenset(field.sha256 for field in record.fields if field.sha256) if record else frozenset()


def _hash_fields_with_cells(output: OutputPaths, slide: str) -> frozenset[str]:
    """Return the SHA-256 of the fields of a slide in which the run found a cell: not those of a label or a scale."""
    result, record = load_run_result(output, slide)
    with_cells = {cell.field for cell in result.cells}
    return frozenset(field.sha256 for field in record.fields if field.sha256 and field.name in with_cells)


def _find_images(output: OutputPaths, slides: Path | None) -> list[FieldImages]:
    """Return the fields' files where the slides lie now, then those where the run found them."""
    images = [FieldImages.find(output, slides)]
    if slides is not None:
        with suppress(ResultsInvalid):  # they are no longer there, as --slides says
            images.append(FieldImages.find(output, None))
    return images


def _crop_boxes(
    boxes: Iterable[_LabelledBox],
    records: Mapping[str, SlideRecord],
    images: Sequence[FieldImages],
    margin: float,
    progress: Progress,
) -> tuple[list[AdaptationCell], dict[str, Counter[str]]]:
    """Return the cells with their pixels, field by field, and how many were left out of what, by the reason."""
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    by_field: dict[tuple[str, str, str], list[_LabelledBox]] = defaultdict(list)
    for box in boxes:
        if records[box.slide].scan is not None:
            left_out[_OF_SCANS][box.slide] += 1
        else:
            by_field[box.slide, box.field, box.field_sha256].append(box)
    colors = {(slide, q.field): q.colors for slide, record in records.items() for q in record.quality}
    cells: list[AdaptationCell] = []
    for (slide, name, sha256), members in progress(list(by_field.items()), len(by_field), "reading fields"):
        contents = (found.read(slide, name, sha256) for found in images)
        content = next((content for content in contents if content is not None), None)
        if content is None:
            left_out[_GONE][f"{slide}/{name}"] += len(members)
            continue
        try:
            field = Field(name, decode_rgb(content, math.inf))
        except FieldUnreadable:  # by another version of a decoder
            left_out[_UNREADABLE][f"{slide}/{name}"] += len(members)
            continue
        for member in members:
            _check_box(member, field)
        crops = crop_cells(field, [member.box for member in members], margin)
        for member, crop in zip(members, crops, strict=True):
            origin, color = _describe_origin(member), colors.get((slide, name))
            cells.append(AdaptationCell(member.label, slide, origin, crop, member.is_named, member.is_random, color))
    return cells, left_out


def _check_box(member: _LabelledBox, field: Field) -> None:
    """Refuse a box that does not lie in its field: its crop would show something else."""
    height, width = field.rgb.shape[:2]
    inside = member.box.intersection(Box(0, 0, width, height))
    if inside is None or inside.area < _MIN_SHARE_INSIDE * member.box.area:
        raise LabelledDataInvalid(
            f"{_describe_origin(member)}: a box of {member.box.width} × {member.box.height} pixels there does not lie "
            f"in the field, which has {width} × {height}"
        )


def _describe_origin(member: _LabelledBox) -> str:
    """Return where a cell is, and who labeled it."""
    return f"slide {member.slide!r}, field {member.field!r}, at {member.box.x}, {member.box.y}, {member.source}"


def _describe_left_out(reason: str, n_by_place: Mapping[str, int]) -> str:
    """Return a note on labeled cells that were left out, with the first slides or fields."""
    more = f" and {len(n_by_place) - _MAX_NAMED} more" if len(n_by_place) > _MAX_NAMED else ""
    named = ", ".join(list(n_by_place)[:_MAX_NAMED])
    return f"{pluralize(sum(n_by_place.values()), 'labeled cell')} left out, because {reason}: {named}{more}"


def _iter_named(named: Sequence[NamedCell], records: Mapping[str, SlideRecord]) -> Iterator[_LabelledBox]:
    """Yield the cells that readers named on label pages, each under the name that its field has now."""
    for own in named:
        cell = own.cell
        if cell.label is NoClass.CANNOT_TELL:
            continue
        names = [field.name for field in records[cell.slide].fields if field.sha256 == cell.field_sha256]
        name = cell.field if cell.field in names else names[0]
        label = "" if isinstance(cell.label, NoClass) else cell.label
        is_random = cell.chosen is Purpose.MEASURE
        source = f"named by {own.reader} in {own.path}"
        yield _LabelledBox(cell.slide, name, cell.field_sha256, cell.box, label, True, is_random, source)


def _iter_reviewed(output: OutputPaths, named: CellIndex) -> Iterator[_LabelledBox]:
    """Yield the cells of reviewed slides that are in a class now, or were called artifacts; no named cell."""
    for slide in read_published_slides(output):
        if not isinstance(slide, PublishedSlide) or not slide.reviewed:
            continue
        run_result, record = load_run_result(output, slide.result.slide)
        hashes = {field.name: field.sha256 for field in record.fields}
        current = find_slide_record(output, record.slide)
        source = f"reviewed by {', '.join(current.readers if current else ())}"
        for original, cell in zip(run_result.cells, slide.result.cells, strict=True):
            category, sha256, box = category_of(cell.prediction), hashes[cell.field] or "", cell.detection.box
            if category == IN_REVIEW or named.holds(sha256, box):
                continue
            is_named = category != category_of(original.prediction)
            label = "" if category == ARTIFACT else CellClass(category)
            yield _LabelledBox(record.slide, cell.field, sha256, box, label, is_named, False, source)

"""The cells of published results that a label page can show, as the run found them, before any review."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wbctool.errors import ResultsInvalid, ReviewRefused
from wbctool.labels import CellClass
from wbctool.paths import SLIDE_JSON, OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.report.csv_tables import hash_cells
from wbctool.store.reader import SkippedSlide, read_published_slides
from wbctool.store.replay import read_original_files, read_result
from wbctool.store.slide_record import SlideRecord, read_slide_record
from wbctool.types.cells import Cell
from wbctool.types.results import SlideResult

DESCRIPTOR_PX = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell that a page may show.

    Attributes:
        slide: The slide's id.
        row: The cell's line in the run's cells.csv, from 1.
        cell: The cell, with the tool's own answer.
        probabilities: Its probabilities in the order of CellClass, 0 for a class that the model does not know.
        field_sha256: The SHA-256 of its field's file.
        descriptor: Its thumbnail reduced to (DESCRIPTOR_PX, DESCRIPTOR_PX, 3) uint8 CIELAB as OpenCV scales it; None if
            the results hold no picture of it.
    """

    slide: str
    row: int
    cell: Cell
    probabilities: tuple[float, ...]
    field_sha256: str
    descriptor: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True)
class CandidateCells:
    """What results have to offer.

    Attributes:
        cells: The cells that can be shown, slide by slide; those of a duplicate field or of a scan are left out.
        classes: The classes of the models that classified them, in the order of CellClass.
        cells_sha256: The SHA-256 of the cells that the run found, by slide.
        unshown: The number of cells of which there is no picture.
        of_scans: The number of cells of whole-slide scans, from which no classifier can learn: their pixels are in no
            file of their own.
        skipped: The slides without results.
    """

    cells: tuple[Candidate, ...]
    classes: tuple[CellClass, ...]
    cells_sha256: Mapping[str, str]
    unshown: int
    of_scans: int
    skipped: tuple[SkippedSlide, ...]


def read_candidates(output: OutputPaths, images: FieldImages) -> CandidateCells:
    """Read the cells of all slides.

    Args:
        output: The results.
        images: The fields' files, for cells of which the results hold no picture: a report of a huge slide shows not
            all of its cells, and those that it shows are the least certain ones.

    Raises:
        ResultsInvalid: There are no results, or a file of them is missing or altered; the error names it.
    """
    cells, skipped, hashes, unshown, of_scans = list[Candidate](), list[SkippedSlide](), dict[str, str](), 0, 0
    classes, fields_seen = set[CellClass](), set[str]()
    for slide in read_published_slides(output):
        if isinstance(slide, SkippedSlide):
            skipped.append(slide)
            continue
        if slide.result.scan is not None:
            of_scans += len(slide.result.cells)
            continue
        result, record = load_run_result(output, slide.result.slide)
        hashes[result.slide] = hash_cells(result, record.provenance.classes)
        classes |= set(record.provenance.classes)
        found = list(_iter_candidates(result, record, fields_seen))
        without_picture = {c.cell.field: c.field_sha256 for c in found if c.descriptor is None}
        there = {field for field, sha256 in without_picture.items() if images.read(result.slide, field, sha256)}
        shown = [c for c in found if c.descriptor is not None or c.cell.field in there]
        cells += shown
        unshown += len(found) - len(shown)
    known = tuple(label for label in CellClass if label in classes)
    return CandidateCells(tuple(cells), known, hashes, unshown, of_scans, tuple(skipped))


def load_run_result(output: OutputPaths, slide: str) -> tuple[SlideResult, SlideRecord]:
    """Return what a run found on a slide, with its pictures, and the record that it wrote.

    Raises:
        ResultsInvalid: A file is missing or altered.
    """
    record = read_slide_record(output.slide_file(slide, SLIDE_JSON), slide)
    try:
        original, files = read_original_files(output, record)
    except ReviewRefused as error:
        raise ResultsInvalid(str(error)) from error
    return read_result(files, original), original


def _iter_candidates(result: SlideResult, record: SlideRecord, fields_seen: set[str]) -> Iterator[Candidate]:
    """Yield the cells of a slide's fields that no field before showed, and note these fields."""
    sha256_by_field = {field.name: field.sha256 for field in record.fields if field.sha256}
    is_duplicate = {quality.field: bool(quality.duplicate_of) for quality in result.quality}
    own = {name: sha for name, sha in sha256_by_field.items() if sha not in fields_seen and not is_duplicate.get(name)}
    fields_seen |= set(own.values())
    for row, (cell, thumbnails) in enumerate(zip(result.cells, result.thumbnails, strict=True), start=1):
        if cell.field in own:
            descriptor = describe_thumbnail(thumbnails.native) if thumbnails.native else None
            probabilities = in_class_order(cell.prediction.probabilities, record.provenance.classes)
            yield Candidate(result.slide, row, cell, probabilities, own[cell.field], descriptor)


def describe_thumbnail(webp: bytes) -> NDArray[np.uint8]:
    """Return a thumbnail reduced to (DESCRIPTOR_PX, DESCRIPTOR_PX, 3) uint8 CIELAB."""
    rgb = np.asarray(Image.open(io.BytesIO(webp), formats=["WEBP"]).convert("RGB"))
    small = cv2.resize(rgb, (DESCRIPTOR_PX, DESCRIPTOR_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.uint8, copy=False)


def in_class_order(probabilities: Sequence[float], classes: Sequence[CellClass]) -> tuple[float, ...]:
    """Return probabilities in the order of CellClass."""
    by_class = dict(zip(classes, probabilities, strict=True))
    return tuple(by_class.get(label, 0.0) for label in CellClass)

"""The files of one slide: made from its result, here or on a cluster's worker, and published with its record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from wbctool.limits import Limits
from wbctool.paths import (
    CELLS_CSV,
    DIFFERENTIAL_CSV,
    REPORT_HTML,
    SLIDE_JSON,
    THUMBNAILS_ZIP,
    OutputPaths,
)
from wbctool.report.csv_tables import cells_csv, counts_row, differential_csv
from wbctool.report.gallery import keep_shown
from wbctool.report.html import render_report
from wbctool.report.render import renderer_sha256
from wbctool.store.atomic_write import write_atomic_group
from wbctool.store.fingerprint import Fingerprints
from wbctool.store.hash_cache import FieldHashes
from wbctool.store.slide_record import AbsoluteCounts, FieldHash, SlideRecord, format_slide_record
from wbctool.store.thumbnail_archive import pack_thumbnails
from wbctool.types.cells import Cell
from wbctool.types.differential import AbsoluteCount, Differential
from wbctool.types.results import OutOfRange, Provenance, SlideResult
from wbctool.types.slides import CieLab, Familiarity, FieldQuality

ORIGINAL_FILES = (DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML, SLIDE_JSON)  # those that a review replaces


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """Everything that is published of a slide.

    Attributes:
        files: The content of each file but ``slide.json``, by name.
        record: The content of ``slide.json``.
    """

    files: Mapping[str, bytes]
    record: SlideRecord


def make_files(
    result: SlideResult, provenance: Provenance, limits: Limits, fields: FieldHashes, fingerprints: Fingerprints
) -> SlideFiles:
    """Return the files and the record of a slide's result.

    Args:
        result: The result of a run.
        provenance: What made it.
        limits: The limits and reference ranges that were used.
        fields: Name and SHA-256 of each image.
        fingerprints: The hashes of what the result depends on.
    """
    result = replace(round_as_stored(result), field_hashes=fields)
    files = {**render_files(result, provenance), THUMBNAILS_ZIP: pack_thumbnails(result)}
    return SlideFiles(files, build_slide_record(result, hash_files(files), provenance, limits, fields, fingerprints))


def render_files(result: SlideResult, provenance: Provenance, images_elsewhere: bool = False) -> dict[str, bytes]:
    """Return the tables and the report of a slide, by file name: what a review replaces.

    Args:
        result: A result as :func:`round_as_stored` gives it, or as it is read back from its files.
        provenance: What made it.
        images_elsewhere: Whether its images are in ``original-report.html`` alone.
    """
    texts = {
        DIFFERENTIAL_CSV: differential_csv(result.differential),
        CELLS_CSV: cells_csv(result.slide, result.cells, provenance.classes, result.later_columns),
        REPORT_HTML: render_report(result, provenance, images_elsewhere),
    }
    return {name: text.encode() for name, text in texts.items()}


def render_slide_files(result: SlideResult, record: SlideRecord, fingerprints: Fingerprints) -> SlideFiles:
    """Render a result anew, as a record describes it; the thumbnails stay where they are.

    Args:
        result: A result as it is read back from its files.
        record: The slide's record before.
        fingerprints: The hashes of what the result depends on.
    """
    files = render_files(result, record.provenance, not record.has_thumbnails)
    hashes = hash_files(files) | {name: sha256 for name, sha256 in record.files.items() if name == THUMBNAILS_ZIP}
    new_record = build_slide_record(result, hashes, record.provenance, record.limits, record.field_hashes, fingerprints)
    return SlideFiles(files, new_record)


def hash_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, by name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def build_slide_record(
    result: SlideResult,
    files: Mapping[str, str],
    provenance: Provenance,
    limits: Limits,
    fields: FieldHashes,
    fingerprints: Fingerprints,
) -> SlideRecord:
    """Return the record of a slide's result.

    Args:
        result: The result as it is stored.
        files: The SHA-256 of each file that is published with it, by name.
        provenance: What made it.
        limits: The limits and reference ranges that were used.
        fields: Name and SHA-256 of each image.
        fingerprints: The hashes of what the result depends on.
    """
    return SlideRecord(
        slide=result.slide,
        status=result.status,
        fingerprint=fingerprints.results,
        fields=tuple(FieldHash(name, sha256) for name, sha256 in fields),
        files=files,
        errors=result.failures,
        counts=counts_row(result),
        limits=limits,
        provenance=provenance,
        reviews=result.reviews,
        metadata=result.metadata,
        absolute_counts=_absolute_counts(result.differential),
        out_of_range=_out_of_range(result.differential),
        quality=result.quality,
        familiarity=result.familiarity,
        cells_fingerprint=fingerprints.cells,
        renderer=renderer_sha256(),
        scan=result.scan,
    )


def write_slide_files(output: OutputPaths, files: Mapping[str, bytes], record: SlideRecord) -> None:
    """Publish a slide's files and, last, its record.

    Raises:
        OutputNotWritable: There is no room for all of them, for example; what was there before is still there.
    """
    contents = {**files, SLIDE_JSON: format_slide_record(record)}
    write_atomic_group({output.slide_file(record.slide, name): content for name, content in contents.items()})


def round_as_stored(result: SlideResult) -> SlideResult:
    """Reduce a result to what its files hold, so that a report rendered from them later has the same bytes.

    Cells are rounded as in cells.csv, quality as in slide.json; thumbnails that the report has no room for go.
    """
    rounded = replace(
        result,
        cells=tuple(_round_cell(cell) for cell in result.cells),
        quality=tuple(_round_quality(quality) for quality in result.quality),
        familiarity=_round_familiarity(result.familiarity),
    )
    return keep_shown(rounded)


def _round_cell(cell: Cell) -> Cell:
    """Round a cell's probabilities and its diameter to the decimals of cells.csv."""
    prediction = cell.prediction
    confidence, *probabilities = (float(f"{p:.4f}") for p in (prediction.confidence, *prediction.probabilities))
    return replace(
        cell,
        prediction=replace(prediction, confidence=confidence, probabilities=tuple(probabilities)),
        diameter_um=_round_or_none(cell.diameter_um, 1),
    )


def _round_familiarity(familiarity: Familiarity | None) -> Familiarity | None:
    """Round the distances and the offset to the decimals of slide.json."""
    return familiarity and replace(
        familiarity,
        mean_distance=_round_or_none(familiarity.mean_distance, 1),
        offset=_round_or_none(familiarity.offset, 2),
        own_distance=_round_or_none(familiarity.own_distance, 1),
    )


def _round_quality(quality: FieldQuality) -> FieldQuality:
    """Round a field's quality to the decimals of slide.json."""
    return replace(
        quality,
        blur_um=_round_or_none(quality.blur_um, 3),
        blur_px=_round_or_none(quality.blur_px, 2),
        coverage=_round_or_none(quality.coverage, 3),
        background_color=_round_color(quality.background_color),
        cell_color=_round_color(quality.cell_color),
        stain_delta_e=_round_or_none(quality.stain_delta_e, 1),
        um_per_px=_round_or_none(quality.um_per_px, 5),
        red_cell_px=_round_or_none(quality.red_cell_px, 1),
        red_cell_um=_round_or_none(quality.red_cell_um, 1),
    )


def _round_color(color: CieLab | None) -> CieLab | None:
    """Round a color to one decimal."""
    return None if color is None else (round(color[0], 1), round(color[1], 1), round(color[2], 1))


def _round_or_none(value: float | None, digits: int) -> float | None:
    """Round a value that may be missing."""
    return None if value is None else round(value, digits)


def _absolute_counts(differential: Differential) -> AbsoluteCounts | None:
    """Return the absolute counts; None without the analyzer's count."""
    if differential.analyzer is None:
        return None
    classes = {count.label: count.absolute and _round_absolute(count.absolute) for count in differential.classes}
    return AbsoluteCounts(**asdict(differential.analyzer), classes=classes)


def _round_absolute(count: AbsoluteCount) -> AbsoluteCount:
    """Round an absolute count to four decimals."""
    value, low, high = (round(number, 4) for number in (count.value, count.ci95_low, count.ci95_high))
    return replace(count, value=value, ci95_low=low, ci95_high=high)


def _out_of_range(differential: Differential) -> OutOfRange:
    """Return what is low or high, by class."""
    flags_by_class = {}
    for count in differential.classes:
        flags = {"percent": count.flag, "absolute": count.absolute.flag if count.absolute else ""}
        if any(flags.values()):
            flags_by_class[count.label.value] = {quantity: flag for quantity, flag in flags.items() if flag}
    return flags_by_class

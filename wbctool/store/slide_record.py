"""slide.json, the record of one slide's results: its type, its one reader and its one writer.

The record holds the fingerprint of everything that the results depend on, the hashes of the files that were published
before it, and a checksum of itself. It counts only while all of them match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

from pydantic import AfterValidator, TypeAdapter

from wbctool.errors import RecordInvalid
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, REPORT_HTML, SLIDE_JSON, THUMBNAILS_ZIP, OutputPaths
from wbctool.report.csv_tables import COUNTS_COLUMNS, NOT_ASSESSED
from wbctool.store import former_records
from wbctool.store.atomic_write import format_json
from wbctool.store.checksum import add_checksum, verify_checksum
from wbctool.store.hash_cache import FieldHashes, HashCache, digest_large_file
from wbctool.store.json_record import RecordSchema, read_record_bytes, validate_record
from wbctool.timing import INPUT_STAGES
from wbctool.types.differential import AbsoluteCount
from wbctool.types.results import FieldFailure, OutOfRange, Provenance, Review, SlideStatus
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import Familiarity, FieldQuality, SlideMetadata

SCHEMA = "wbctool-slide/2"
RESULT_FILES = (DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML, THUMBNAILS_ZIP)
WHOLE_NUMBER_COLUMNS = ("fields", "fields_failed", "cells", "counted", "review", "not_wbc")
_OMITTED_IF_EMPTY = (
    "metadata",
    "absolute_counts",
    "out_of_range",
    "familiarity",
    "cells_fingerprint",
    "renderer",
    "scan",
)
_VERSION_1_FILES = frozenset(RESULT_FILES) - {THUMBNAILS_ZIP}


def _check_status(status: SlideStatus) -> SlideStatus:
    """Refuse the status that no slide with results has."""
    if status is SlideStatus.WAITING:
        raise ValueError("a slide with results does not wait")
    return status


def _check_counts(counts: Mapping[str, str]) -> Mapping[str, str]:
    """Refuse what is not one row of counts.csv."""
    if tuple(counts) != COUNTS_COLUMNS:
        raise ValueError("the columns are not those of counts.csv")
    numbers = {name: counts[name] for name in WHOLE_NUMBER_COLUMNS}
    numbers |= {name: value for name, value in counts.items() if name.endswith("_n") and value != NOT_ASSESSED}
    for name, value in numbers.items():
        if not value.isdecimal():
            raise ValueError(f"{name}: {value!r} is not a whole number")
    return counts


@dataclass(frozen=True, slots=True)
class FieldHash:
    """One image of a slide.

    Attributes:
        name: The file's name.
        sha256: The hash of its content; None if it could not be read.
    """

    name: str
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsoluteCounts:
    """The absolute counts of a slide in 10⁹/L, rounded to four decimals.

    Attributes:
        unit: The unit of all values.
        analyser_wbc: The analyzer's white cells as it gives them.
        wbc: The same, corrected for nucleated red cells if the settings ask for it.
        corrected_for_nrbc: Whether it is corrected.
        reference_source: The source of the reference ranges; empty if none apply.
        classes: The count of each class; None if nothing was counted.
    """

    unit: str = "10^9/L"
    analyser_wbc: float
    wbc: float
    corrected_for_nrbc: bool
    reference_source: str
    classes: Mapping[CellClass, AbsoluteCount | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRecord:
    """The content of slide.json, apart from its schema and checksum.

    Attributes:
        slide: The slide's id.
        status: Its status; never ``waiting``.
        fingerprint: The hash of everything that the results depend on.
        fields: Its images with their hashes; of a scan the zones that were looked at, with the hashes of their pixels.
        files: The SHA-256 of each other file of the slide, by name.
        errors: The failures of its fields.
        counts: Its row of counts.csv, by column in order; the slide's id as it is.
        limits: The limits and reference ranges that were used.
        provenance: What made the results.
        reviews: The reviews that were applied since, in order.
        metadata: Its line of slides.csv, if it has one.
        absolute_counts: The absolute counts, if slides.csv has the analyzer's count.
        out_of_range: What is low or high, by class.
        quality: The quality of each field that was read.
        familiarity: Whether the slide is familiar; None if the models do not measure it.
        cells_fingerprint: The hash of what decides its cells; empty in records of earlier versions.
        renderer: The hash of the code that rendered its report; empty in records of earlier versions.
        scan: What was done with a whole-slide scan; None for a folder of images.
    """

    slide: str
    status: Annotated[SlideStatus, AfterValidator(_check_status)]
    fingerprint: str
    fields: tuple[FieldHash, ...]
    files: Mapping[str, str]
    errors: tuple[FieldFailure, ...]
    counts: Annotated[Mapping[str, str], AfterValidator(_check_counts)]
    limits: Limits
    provenance: Provenance
    reviews: tuple[Review, ...] = ()
    metadata: SlideMetadata | None = None
    absolute_counts: AbsoluteCounts | None = None
    out_of_range: OutOfRange = field(default_factory=dict)
    quality: tuple[FieldQuality, ...] = ()
    familiarity: Familiarity | None = None
    cells_fingerprint: str = ""
    renderer: str = ""
    scan: ScanSummary | None = None

    def __post_init__(self) -> None:
        if (self.counts["slide"], self.counts["status"]) != (self.slide, self.status.value):
            raise ValueError("counts: they are of another slide or another status")

    @property
    def field_hashes(self) -> FieldHashes:
        """Name and SHA-256 of its fields."""
        return tuple((field.name, field.sha256) for field in self.fields)

    @property
    def source_hashes(self) -> FieldHashes:
        """Name and SHA-256 of the files that its results depend on: its images, or those of a scan."""
        return self.field_hashes if self.scan is None else self.scan.files

    @property
    def has_thumbnails(self) -> bool:
        """Whether its thumbnails are stored; results of schema version 1 have none."""
        return THUMBNAILS_ZIP in self.files

    @property
    def cells_id(self) -> str:
        """The fingerprint that stays while its cells stay; for records of earlier versions that of the results."""
        return self.cells_fingerprint or self.fingerprint

    @property
    def readers(self) -> tuple[str, ...]:
        """Who reviewed it, each once."""
        return tuple(dict.fromkeys(review.reader for review in self.reviews))

    @property
    def patient(self) -> str:
        """The patient of slides.csv; empty if it names none."""
        return (self.metadata.patient or "") if self.metadata else ""

    @property
    def notices(self) -> tuple[str, ...]:
        """What a laboratory must know about its input."""
        red_cell_sizes_um = [q.red_cell_um for q in self.quality if q.scale_mismatch and q.red_cell_um is not None]
        if not red_cell_sizes_um:
            return ()
        is_given = self.metadata is not None and self.metadata.um_per_px is not None
        wrong = "um_per_px in slides.csv, which" if is_given else "the metadata of its images, which"
        return (
            f"slide {self.slide!r}: red cells measure {median(red_cell_sizes_um):.1f} µm by {wrong} must be wrong; "
            "focus is not judged",
        )

    @property
    def repeated_cells(self) -> int:
        """The number of cells that a second field shows, which are counted once."""
        return sum(quality.repeated_cells for quality in self.quality)

    @property
    def is_deterministic(self) -> bool:
        """Whether another run would give the same; what the machine lacked once it may have the next time."""
        return all(failure.stage in INPUT_STAGES for failure in self.errors)


_RECORD_SCHEMA = RecordSchema(
    "slide", SCHEMA, former_records.SLIDE_SCHEMA, former_records.upgrade_slide, TypeAdapter(SlideRecord)
)


def format_slide_record(record: SlideRecord) -> bytes:
    """Return the content of slide.json. This is its one writer."""
    values = _RECORD_SCHEMA.adapter.dump_python(record, exclude={"quality": {"__all__": {"thumbnail"}}})
    content = {key: value for key, value in values.items() if value or key not in _OMITTED_IF_EMPTY}
    return format_json(add_checksum({"schema": SCHEMA, **content})).encode("ascii")


def read_slide_record(path: Path, slide: str | None = None) -> SlideRecord:
    """Read a slide.json of this schema version or the one before. This is its one reader.

    Args:
        path: The file.
        slide: The slide that it must belong to; None for any.

    Raises:
        RecordInvalid: The file is missing, altered, another slide's, or not valid; it names the place in the file.
    """
    text = read_record_bytes(path)
    try:
        content = verify_checksum(text)
    except ValueError as error:
        raise RecordInvalid(path, f"cannot be trusted: {error}") from error
    record = validate_record(content, path, _RECORD_SCHEMA)
    if slide is not None and record.slide != slide:
        raise RecordInvalid(path, f"belongs to slide {record.slide!r}")
    return record


def find_slide_record(output: OutputPaths, slide: str, name: str = SLIDE_JSON) -> SlideRecord | None:
    """Return a slide's record; None if it has none that is valid.

    Args:
        output: The output.
        slide: The slide's id.
        name: The file's name in the slide's folder.
    """
    try:
        return read_slide_record(output.slide_file(slide, name), slide)
    except (RecordInvalid, ValueError):  # ValueError: no id of a slide
        return None


def iter_records_below(output: OutputPaths, slide: str) -> Iterator[SlideRecord]:
    """Yield the records of the slides whose ids begin with ``slide/``, in order of their paths."""
    for path in sorted(output.slide_folder(slide).glob(f"*/**/{SLIDE_JSON}")):
        with suppress(RecordInvalid, ValueError):
            record = read_slide_record(path)
            if record.slide.startswith(f"{slide}/") and output.slide_file(record.slide, SLIDE_JSON) == path:
                yield record


def outputs_match(output: OutputPaths, record: SlideRecord, hash_cache: HashCache) -> bool:
    """Return whether a slide's files are in place as they were published."""
    return record.files.keys() in (frozenset(RESULT_FILES), _VERSION_1_FILES) and all(
        hash_cache.hash_file(output.slide_file(record.slide, name), digest_large_file) == sha256
        for name, sha256 in record.files.items()
    )

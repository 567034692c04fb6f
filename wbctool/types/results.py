"""The results of a slide: what a run found, what is published, and what readers changed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from wbctool.labels import CellClass
from wbctool.types.cells import Cell
from wbctool.types.differential import Differential, Flag
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import Familiarity, FieldQuality, SlideMetadata

LATER_CELL_COLUMNS = ("subtype", "diameter_um")
"""The columns of cells.csv after ``p_<class>``. The results of earlier versions lack them, or the last of them."""

OutOfRange = Mapping[str, Mapping[str, str]]
"""Which of ``percent`` and ``absolute`` is ``low`` or ``high``, by class; classes within their ranges are left out."""


_MAX_WRONGLY_SAVED_SHARE = 0.25  # of those that were judged; of fields with red and blue exchanged, half are noticed


@dataclass(frozen=True, slots=True)
class FieldFailure:
    """A field, or a whole slide, that could not be read or analyzed.

    Attributes:
        slide: The slide's id.
        field: The field's name; empty if the whole slide failed.
        stage: The stage that failed.
        cause: The cause, in one line.
        is_wrongly_saved: Whether its colors or the order of its pixels are wrong, so that those of the slide's other
            fields may be.
    """

    slide: str
    field: str
    stage: str
    cause: str
    is_wrongly_saved: bool = False


def count_failed_fields(failures: Iterable[FieldFailure]) -> int:
    """Count the fields that failed; a failure of the slide as a whole is not one of them."""
    return sum(bool(failure.field) for failure in failures)


def suspects_all_fields(failures: Iterable[FieldFailure], n_read: int) -> bool:
    """Return whether so many fields of a slide are wrongly saved that those which passed probably are, too.

    Args:
        failures: The failures of the slide.
        n_read: The number of fields that were analyzed.
    """
    n_wrong = sum(failure.is_wrongly_saved for failure in failures)
    return n_wrong > _MAX_WRONGLY_SAVED_SHARE * (n_wrong + n_read)


class SlideStatus(StrEnum):
    """The last state of a slide."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    WAITING = "waiting"


FAILURE_STATUSES = frozenset({SlideStatus.PARTIAL, SlideStatus.FAILED})


@dataclass(frozen=True, slots=True)
class CellThumbnails:
    """The images of a cell in the report, as WebP.

    Attributes:
        native: The native crop; empty if the report does not show the cell.
        super_resolved: The generator's output; empty if it was not used.
    """

    native: bytes = b""
    super_resolved: bytes = b""


@dataclass(frozen=True, slots=True)
class FieldThumbnail:
    """A small image of a field.

    Attributes:
        name: The field's name.
        width: The field's own width, in native pixels.
        height: The field's own height, in native pixels.
        jpeg: The small image, as JPEG.
        x: Where the field begins in the pixels of its cells: 0, but for a zone of a scan.
        y: The same downwards.
    """

    name: str
    width: int
    height: int
    jpeg: bytes
    x: int = 0
    y: int = 0


@dataclass(frozen=True, slots=True)
class ReviewNote:
    """What readers did with a cell.

    Attributes:
        row: The cell's row in cells.csv, from 1.
        original: The category that the tool had put the cell into (wbctool.report.categories).
        comment: The reader's comment.
    """

    row: int
    original: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """One reader's review of a slide.

    Attributes:
        reader: The reader's name.
        time: The time by the reader's clock, in ISO 8601.
        n_reclassified: The number of cells that were moved to another category.
        comment: The reader's comment.
        entry_sha256: The SHA-256 of the review's line in the audit log.
    """

    reader: str
    time: str
    n_reclassified: int
    comment: str
    entry_sha256: str


@dataclass(frozen=True, slots=True)
class SlideResult:
    """Everything that is known of one slide after a run.

    Attributes:
        slide: The slide's id.
        status: The slide's status.
        fields: The number of fields, failed ones included.
        failures: The fields that failed.
        cells: The cells, in order.
        thumbnails: The thumbnails of each cell.
        differential: The differential.
        field_thumbnails: The thumbnails of the fields with cells.
        reviews: The readers' reviews since the run.
        notes: What the readers did with single cells.
        metadata: The slide's row of slides.csv; None if it has none.
        quality: The quality of each field that was read, in order.
        familiarity: Whether the slide is familiar; None if the models do not measure it.
        scan: What was done with a whole-slide scan; None for a folder of images.
        later_columns: Those of ``LATER_CELL_COLUMNS`` that its cells.csv has.
        field_hashes: Name and SHA-256 of each field; None for one that could not be read.
    """

    slide: str
    status: SlideStatus
    fields: int
    failures: tuple[FieldFailure, ...]
    cells: tuple[Cell, ...]
    thumbnails: tuple[CellThumbnails, ...]
    differential: Differential
    field_thumbnails: tuple[FieldThumbnail, ...] = ()
    reviews: tuple[Review, ...] = ()
    notes: tuple[ReviewNote, ...] = ()
    metadata: SlideMetadata | None = None
    quality: tuple[FieldQuality, ...] = ()
    familiarity: Familiarity | None = None
    scan: ScanSummary | None = None
    later_columns: tuple[str, ...] = LATER_CELL_COLUMNS
    field_hashes: tuple[tuple[str, str | None], ...] = ()

    @property
    def repeated_cells(self) -> int:
        """The number of cells that a second field shows, which are counted once."""
        return sum(quality.repeated_cells for quality in self.quality)


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model, as results name it.

    Attributes:
        file: The name of the ONNX file.
        name: The model's name.
        version: The model's version.
        sha256: The SHA-256 of the ONNX file.
    """

    file: str
    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PublishedSlide:
    """A slide as it was published.

    Attributes:
        result: The result, without thumbnails. Percents and probabilities are rounded as in the files; energies, which
            are not published, are NaN.
        field_names: The names of all fields, failed ones included.
        classes: The classes of the model.
        cells_id: The hash of what its cells depend on; for results of earlier versions, of all that they depend on.
        provenance: How the results were made; None if an earlier version did not record it.
        reviewed: Whether a reader has reviewed the slide.
    """

    result: SlideResult
    field_names: tuple[str, ...]
    classes: tuple[CellClass, ...]
    cells_id: str
    provenance: Provenance | None
    reviewed: bool

    @property
    def image_names(self) -> tuple[str, ...]:
        """The images that were analyzed: the fields, or of a scan its file."""
        return self.analyzed_fields if self.result.scan is None else (self.result.scan.file,)

    @property
    def analyzed_fields(self) -> tuple[str, ...]:
        """The names of the fields that did not fail."""
        failed = {failure.field for failure in self.result.failures}
        return tuple(name for name in self.field_names if name not in failed)

    @property
    def is_final(self) -> bool:
        """Whether a reader has reviewed the slide and left no cell in review; never of an unfamiliar slide."""
        differential = self.result.differential
        return self.reviewed and not differential.review and Flag.UNFAMILIAR not in differential.flags


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a result was made.

    Attributes:
        tool_version: The version of wbctool.
        provider: The execution provider of onnxruntime.
        precision: The arithmetic of the models.
        classes: The classes of the model.
        models: The models.
        settings: The name and value of each setting that changes results.
        reference_source: The source of the reference ranges; empty if they do not apply.
    """

    tool_version: str
    provider: str
    precision: str
    classes: tuple[CellClass, ...]
    models: tuple[ModelRef, ...]
    settings: tuple[tuple[str, str], ...]
    reference_source: str = ""

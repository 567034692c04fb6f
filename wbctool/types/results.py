"""The records of a slide once its cells are counted: what happened to it, what is published, what readers did since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from wbctool.labels import CellClass
from wbctool.types.cells import Cell, Differential
from wbctool.types.slides import FieldQuality, SlideMetadata

OutOfRange = Mapping[str, Mapping[str, str]]
"""By class, which of ``percent`` and ``absolute`` is ``low`` or ``high``; classes within their ranges are left out."""


@dataclass(frozen=True, slots=True)
class FieldFailure:
    """A field, or a whole slide where field is empty, that could not be read or analysed."""

    slide: str
    field: str
    stage: str
    cause: str


class SlideStatus(StrEnum):
    """The last state of a slide."""

    OK = "ok"
    PARTIAL = "partial"
    FAILED = "failed"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class CellThumbnails:
    """What the report shows of a cell, WebP each. super_resolved: the generator's picture; empty where it was not used."""

    native: bytes = b""
    super_resolved: bytes = b""


@dataclass(frozen=True, slots=True)
class FieldThumbnail:
    """A reduced JPEG of a field. width, height: of the field itself, in native pixels."""

    name: str
    width: int
    height: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class ReviewNote:
    """What readers did with a cell. row: counts from 1 in cells.csv. original: where the tool had put it (a place)."""

    row: int
    original: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """One reader's review of a slide. time: ISO 8601, by the reader's clock. n_reclassified: cells moved to another place.

    entry_sha256: the SHA-256 of its line in the audit trail.
    """

    reader: str
    time: str
    n_reclassified: int
    comment: str
    entry_sha256: str


@dataclass(frozen=True, slots=True)
class SlideResult:
    """All that is known of one slide after a run.

    thumbnails: of each cell, in order; one without a native crop stands for a cell that the report does not show.
    field_thumbnails: of fields with cells. reviews, notes: what readers did to the results since; empty after a run.
    metadata: None where slides.csv does not name the slide. quality: of each field that was read, in order.
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


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as results name it. file: the ONNX file's name. sha256: of its bytes."""

    file: str
    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PublishedSlide:
    """A slide as its published files have it.

    result: without pictures; percents and probabilities as rounded there; energies, which are not published, are NaN.
    field_names: of all its fields, failed ones too. classes: of the model. fingerprint: of all the results depend on.
    provenance: None where an earlier version left none. reviewed: whether a reader has been over it.
    """

    result: SlideResult
    field_names: tuple[str, ...]
    classes: tuple[CellClass, ...]
    fingerprint: str
    provenance: Provenance | None
    reviewed: bool

    @property
    def analyzed_fields(self) -> tuple[str, ...]:
        """The names of the fields that were analysed."""
        failed = {failure.field for failure in self.result.failures}
        return tuple(name for name in self.field_names if name not in failed)

    @property
    def is_final(self) -> bool:
        """Whether a reader has been over it and left no cell undecided."""
        return self.reviewed and not self.result.differential.review


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a result. settings: (name, value) of those that change results."""

    tool_version: str
    provider: str
    precision: str
    classes: tuple[CellClass, ...]
    models: tuple[ModelRef, ...]
    settings: tuple[tuple[str, str], ...]
    reference_source: str = ""

"""What a run knows of one slide at its end, from its record or because it failed as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from wbctool.labels import CellClass
from wbctool.report.csv_tables import empty_row, split_flags
from wbctool.store.slide_record import SlideRecord
from wbctool.timing import Stage
from wbctool.types.cells import Slide
from wbctool.types.differential import Flag
from wbctool.types.results import FieldFailure, OutOfRange, SlideStatus
from wbctool.types.scans import ScanSummary


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """What a run knows of one slide at its end.

    Attributes:
        slide: The slide's id.
        status: Its status.
        counts: Its row of counts.csv, by column in order; the slide's id as it is.
        failures: The failures of its fields, or of the slide as a whole.
        seconds: The time that each stage took.
        readers: Who reviewed it since it was processed.
        patient: The patient of slides.csv; empty if it names none.
        out_of_range: What is low or high, by class.
        notices: What a laboratory must know about its input.
        repeated_cells: The number of cells that a second field shows, which are counted once.
        scan: What was done with a whole-slide scan; None for a folder of images.
    """

    slide: str
    status: SlideStatus
    counts: Mapping[str, str]
    failures: tuple[FieldFailure, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    patient: str = ""
    out_of_range: OutOfRange = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    repeated_cells: int = 0
    scan: ScanSummary | None = None

    @property
    def flags(self) -> list[str]:
        """Its flags, in order."""
        return split_flags(self.counts["flags"])

    @property
    def is_unpublished(self) -> bool:
        """Whether it failed as a whole, so that this run published nothing of it."""
        return self.status is SlideStatus.FAILED and any(not failure.field for failure in self.failures)

    @classmethod
    def from_record(cls, record: SlideRecord) -> SlideOutcome:
        """Return what a slide's record says."""
        return cls(
            record.slide,
            record.status,
            record.counts,
            record.errors,
            readers=record.readers,
            patient=record.patient,
            out_of_range=record.out_of_range,
            notices=record.notices,
            repeated_cells=record.repeated_cells,
            scan=record.scan,
        )


def make_failed_outcome(slide: Slide, stage: Stage, cause: str, model_classes: Collection[CellClass]) -> SlideOutcome:
    """Return the outcome of a slide that failed as a whole; what an earlier run published of it stays.

    Args:
        slide: The slide.
        stage: The stage that failed.
        cause: Why.
        model_classes: The classes that the model knows.
    """
    status = SlideStatus.FAILED
    counts = empty_row(slide.id, status, slide.n_fields, model_classes, Flag.FAILED_FIELDS)
    return SlideOutcome(slide.id, status, counts, (FieldFailure(slide.id, "", stage, cause),))

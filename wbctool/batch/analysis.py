"""What a run has found of one slide so far, and the slide's result once all its fields are done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from wbctool.batch.clock import add_seconds
from wbctool.batch.looking import Looked
from wbctool.batch.naming import Named
from wbctool.batch.seen_files import SeenFiles
from wbctool.labels import CellClass
from wbctool.records import Cell, Slide
from wbctool.settings import RunSettings
from wbctool.slide_facts import FieldQuality, SlideMetadata
from wbctool.slide_results import CellPicture, FieldFailure, FieldPicture, SlideResult, SlideStatus
from wbctool.stages.absolute import limits_for, with_absolute_counts
from wbctool.stages.differential import count_cells
from wbctool.stages.quality import judge_fields, quality_flags

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Analysis:
    """A slide's fields as they come in, in order. hashes: each one's name and its content's, None where unreadable."""

    slide: Slide
    seen: SeenFiles
    hashes: list[tuple[str, str | None]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    pictures: list[CellPicture] = field(default_factory=list)
    overviews: list[FieldPicture] = field(default_factory=list)
    failures: list[FieldFailure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    quality: list[FieldQuality] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every field of the slide is in."""
        return len(self.hashes) == len(self.slide.fields)

    def add(self, looked: Looked, named: Named) -> None:
        """The next field."""
        self.hashes.append((looked.name, looked.sha256))
        if looked.stamp and looked.sha256:
            self.seen.note(looked.name, looked.stamp, looked.sha256)
        if looked.quality is not None:
            self.quality.append(looked.quality)
        if named.failure is None and looked.overview is not None:
            self.overviews.append(looked.overview)
        self.cells += named.cells
        self.pictures += named.pictures
        self.failures += [failure for failure in (looked.failure, named.failure) if failure]
        add_seconds(self.seconds, looked.clock.seconds)
        add_seconds(self.seconds, named.seconds)


def result_of(
    analysis: Analysis, classes: Sequence[CellClass], settings: RunSettings, metadata: SlideMetadata | None
) -> SlideResult:
    """A complete slide: counted, flagged, its fields' quality judged. classes: of the model."""
    limits = limits_for(settings, metadata)
    failed = sum(bool(failure.field) for failure in analysis.failures)
    read = len(analysis.slide.fields) - failed
    quality = judge_fields(analysis.quality, limits)
    _tell_of_quality(analysis.slide.id, quality)
    flags = _field_flags(analysis) | quality_flags(quality, limits)
    differential = count_cells([cell.prediction for cell in analysis.cells], classes, limits, flags, read)
    return SlideResult(
        slide=analysis.slide.id,
        status=SlideStatus.FAILED if not read else SlideStatus.PARTIAL if analysis.failures else SlideStatus.OK,
        fields=len(analysis.slide.fields),
        failures=tuple(analysis.failures),
        cells=tuple(analysis.cells),
        pictures=tuple(analysis.pictures),
        field_pictures=tuple(analysis.overviews),
        differential=with_absolute_counts(differential, metadata.analyser_wbc if metadata else None, limits),
        metadata=metadata,
        quality=quality,
    )


def _field_flags(analysis: Analysis) -> set[str]:
    contents = [sha256 for _, sha256 in analysis.hashes if sha256 is not None]
    flags = {"failed_fields"} if analysis.failures else set()
    if len(set(contents)) < len(contents):
        flags.add("duplicate_fields")
    return flags


def _tell_of_quality(slide: str, fields: Sequence[FieldQuality]) -> None:
    misscaled = [q.red_cell_um for q in fields if q.misscaled and q.red_cell_um is not None]
    if misscaled:
        told = (
            "slide %r: red cells measure %.1f µm by um_per_px in slides.csv, which must be wrong; focus is not judged"
        )
        log.warning(told, slide, median(misscaled))
    for quality in fields:
        if quality.blurred:
            log.info("slide %r, field %r: blurred, edges of %.2f µm", slide, quality.field, quality.blur_um)
        if quality.crowded:
            log.info("slide %r, field %r: crowded, %.0f %% covered", slide, quality.field, 100 * (quality.cover or 0))
        if quality.strange:
            log.info("slide %r, field %r: colours %.0f from the training's", slide, quality.field, quality.stain_de)

"""What a run has found of one slide so far, and the slide's result once all its fields are done."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from wbctool.labels import CellClass
from wbctool.pipeline.cell_worker import ClassifiedField
from wbctool.pipeline.field_worker import FieldAnalysis
from wbctool.settings import RunSettings
from wbctool.stages.absolute_counts import add_absolute_counts, resolve_limits
from wbctool.stages.differential import count_cells
from wbctool.stages.quality import apply_quality_limits, compute_quality_flags
from wbctool.store.hash_cache import HashCache
from wbctool.timing import add_seconds
from wbctool.types.cells import Cell, Slide
from wbctool.types.results import CellThumbnails, FieldFailure, FieldThumbnail, SlideResult, SlideStatus
from wbctool.types.slides import FieldQuality, SlideMetadata

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SlideAccumulator:
    """A slide's fields as they come in, in order. field_hashes: each one's name and its content's, None where unreadable."""

    slide: Slide
    hash_cache: HashCache
    field_hashes: list[tuple[str, str | None]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    thumbnails: list[CellThumbnails] = field(default_factory=list)
    field_thumbnails: list[FieldThumbnail] = field(default_factory=list)
    failures: list[FieldFailure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    quality: list[FieldQuality] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every field of the slide is in."""
        return len(self.field_hashes) == len(self.slide.fields)

    def add(self, analysis: FieldAnalysis, classified: ClassifiedField) -> None:
        """The next field."""
        self.field_hashes.append((analysis.name, analysis.sha256))
        if analysis.file_stat and analysis.sha256:
            self.hash_cache.remember(analysis.name, analysis.file_stat, analysis.sha256)
        if analysis.quality is not None:
            self.quality.append(analysis.quality)
        if classified.failure is None and analysis.field_thumbnail is not None:
            self.field_thumbnails.append(analysis.field_thumbnail)
        self.cells += classified.cells
        self.thumbnails += classified.thumbnails
        self.failures += [failure for failure in (analysis.failure, classified.failure) if failure]
        add_seconds(self.seconds, analysis.timer.seconds)
        add_seconds(self.seconds, classified.seconds)


def build_result(
    accumulator: SlideAccumulator, classes: Sequence[CellClass], settings: RunSettings, metadata: SlideMetadata | None
) -> SlideResult:
    """A complete slide: counted, flagged, its fields' quality judged. classes: of the model."""
    limits = resolve_limits(settings.limits, metadata)
    n_failed = sum(bool(failure.field) for failure in accumulator.failures)
    n_read = len(accumulator.slide.fields) - n_failed
    quality = apply_quality_limits(accumulator.quality, limits)
    _log_quality_warnings(accumulator.slide.id, quality)
    flags = _field_flags(accumulator) | compute_quality_flags(quality, limits)
    differential = count_cells([cell.prediction for cell in accumulator.cells], classes, limits, flags, n_read)
    return SlideResult(
        slide=accumulator.slide.id,
        status=SlideStatus.FAILED if not n_read else SlideStatus.PARTIAL if accumulator.failures else SlideStatus.OK,
        fields=len(accumulator.slide.fields),
        failures=tuple(accumulator.failures),
        cells=tuple(accumulator.cells),
        thumbnails=tuple(accumulator.thumbnails),
        field_thumbnails=tuple(accumulator.field_thumbnails),
        differential=add_absolute_counts(differential, metadata.analyser_wbc if metadata else None, limits),
        metadata=metadata,
        quality=quality,
    )


def _field_flags(accumulator: SlideAccumulator) -> set[str]:
    hashes = [sha256 for _, sha256 in accumulator.field_hashes if sha256 is not None]
    flags = {"failed_fields"} if accumulator.failures else set()
    if len(set(hashes)) < len(hashes):
        flags.add("duplicate_fields")
    return flags


def _log_quality_warnings(slide: str, qualities: Sequence[FieldQuality]) -> None:
    red_cell_sizes_um = [q.red_cell_um for q in qualities if q.scale_mismatch and q.red_cell_um is not None]
    if red_cell_sizes_um:
        message = (
            "slide %r: red cells measure %.1f µm by um_per_px in slides.csv, which must be wrong; focus is not judged"
        )
        log.warning(message, slide, median(red_cell_sizes_um))
    for quality in qualities:
        if quality.blurred:
            log.info("slide %r, field %r: blurred, edges of %.2f µm", slide, quality.field, quality.blur_um)
        if quality.crowded:
            log.info(
                "slide %r, field %r: crowded, %.0f %% covered", slide, quality.field, 100 * (quality.coverage or 0)
            )
        if quality.stain_out_of_range:
            log.info(
                "slide %r, field %r: colours %.0f from the training's", slide, quality.field, quality.stain_delta_e
            )

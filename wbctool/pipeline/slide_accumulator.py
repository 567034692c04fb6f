"""The results of one slide's fields as they come in, and the slide's result once all are in."""

from __future__ import annotations

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.pipeline.cell_worker import ClassifiedField
from wbctool.pipeline.field_source import FieldSource
from wbctool.pipeline.field_worker import FieldAnalysis
from wbctool.pipeline.scan_survey import ScanSurvey
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.judgment import judge_slide
from wbctool.stages.shared_cells import find_repeated_cells
from wbctool.stages.tiles import is_same_object
from wbctool.store.hash_cache import FieldHashes, HashCache
from wbctool.timing import add_seconds
from wbctool.types.cells import Cell, Detection, Outcome, Slide
from wbctool.types.differential import Flag
from wbctool.types.results import (
    CellThumbnails,
    FieldFailure,
    FieldThumbnail,
    SlideResult,
    SlideStatus,
    count_failed_fields,
    suspects_all_fields,
)
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import FieldQuality, SlideMetadata

log = logging.getLogger(__name__)

_SAME_IOU = 0.5  # of two boxes on the seam of two zones


@dataclass(slots=True)
class SlideAccumulator:
    """The fields of one slide, added in order.

    Attributes:
        slide: The slide.
        hash_cache: Takes the hashes of the fields.
        field_hashes: The name and the SHA-256 of each added field; None if it could not be read.
        cells: The cells of all added fields.
        thumbnails: The thumbnails of each cell.
        field_thumbnails: The thumbnails of the fields with cells.
        failures: The fields that failed.
        seconds: The seconds per stage.
        quality: The quality of each field that could be analyzed.
        target_cells: How many counted cells of a scan are enough; None for a folder of images, and for all.
        survey: The survey of a scan; None for a folder of images.
        n_fields: The number of the slide's fields; None as long as it is not known how many zones of a scan it takes.
        n_counted: The number of its cells that pass the rule for single cells.
    """

    slide: Slide
    hash_cache: HashCache
    field_hashes: list[tuple[str, str | None]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    thumbnails: list[CellThumbnails] = field(default_factory=list)
    field_thumbnails: list[FieldThumbnail] = field(default_factory=list)
    failures: list[FieldFailure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    quality: list[FieldQuality] = field(default_factory=list)
    target_cells: int | None = None
    survey: ScanSurvey | None = None
    n_fields: int | None = None
    n_counted: int = 0
    _last_round: int = 0
    _seam_cells: list[Detection] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every field of the slide was added, or a scan's cells are enough."""
        return len(self.field_hashes) == self.n_fields

    @property
    def source_hashes(self) -> FieldHashes:
        """Name and SHA-256 of the files that the slide's results depend on."""
        return tuple(self.field_hashes) if self.survey is None else self.survey.files

    @property
    def scan_summary(self) -> ScanSummary | None:
        """What was done with a scan."""
        return None if self.survey is None else self.survey.summarize(len(self.field_hashes), self._last_round)

    def add(self, analysis: FieldAnalysis, classified: ClassifiedField) -> None:
        """Add the next field, after its detection and its classification."""
        classified = self._drop_known_cells(analysis.source, classified)
        self._last_round = analysis.source.survey_round
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
        self.n_counted += sum(cell.prediction.outcome is Outcome.COUNTED for cell in classified.cells)
        if self.target_cells is not None and self.n_counted >= self.target_cells:
            self.n_fields = len(self.field_hashes)

    def _drop_known_cells(self, source: FieldSource, classified: ClassifiedField) -> ClassifiedField:
        """Leave out the cells on the seams of a zone that a zone before it has."""
        kept: list[tuple[Cell, CellThumbnails]] = []
        for cell, thumbnails in zip(classified.cells, classified.thumbnails, strict=True):
            is_on_seam = source.is_on_seam(cell.detection)
            if is_on_seam and any(is_same_object(cell.detection.box, d.box, _SAME_IOU) for d in self._seam_cells):
                continue
            if is_on_seam:
                self._seam_cells.append(cell.detection)
            kept.append((replace(cell, index=len(kept) + 1), thumbnails))
        return replace(classified, cells=tuple(c for c, _ in kept), thumbnails=tuple(t for _, t in kept))

    def leave_out_repeated_cells(self) -> None:
        """Keep one photograph of each cell that several fields show, once all fields were added.

        The cells that stay are numbered anew within each field, and the quality of a field says where its others are.
        The zones of a scan share cells by design, which were left out when they were added.
        """
        if self.survey is not None:
            return
        repeated = find_repeated_cells(
            [cell.field for cell in self.cells], [cell.detection for cell in self.cells], self.field_thumbnails
        )
        if not repeated:
            return
        counted_elsewhere: dict[str, Counter[str]] = defaultdict(Counter)
        for index, kept in repeated.items():
            counted_elsewhere[self.cells[index].field][self.cells[kept].field] += 1
        kept_indices = [index for index in range(len(self.cells)) if index not in repeated]
        numbers: dict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
        self.thumbnails = [self.thumbnails[index] for index in kept_indices]
        self.cells = [
            replace(cell, index=next(numbers[cell.field])) for cell in (self.cells[index] for index in kept_indices)
        ]
        self.quality = [replace(q, counted_elsewhere=dict(counted_elsewhere[q.field])) for q in self.quality]


def build_result(
    accumulator: SlideAccumulator,
    model_classes: Sequence[CellClass],
    limits: Limits,
    metadata: SlideMetadata | None,
    familiarity_rule: FamiliarityRule | None,
) -> SlideResult:
    """Judge a complete slide: its fields' quality, whether it is familiar, its counts and its flags.

    Args:
        accumulator: The slide with all its fields.
        model_classes: The classes that the classifier knows.
        limits: The slide's limits.
        metadata: The slide's row of slides.csv; None if it has none.
        familiarity_rule: The rule of the classifier's card; None if it has none.

    Returns:
        The slide's result.
    """
    n_read = len(accumulator.field_hashes) - count_failed_fields(accumulator.failures)
    is_wrongly_saved = suspects_all_fields(accumulator.failures, n_read)
    if is_wrongly_saved:
        log.warning(
            "slide %r: so many fields have wrong colors or pixels in disorder that the others probably have too; all "
            "cells go to review",
            accumulator.slide.id,
        )
    judgment = judge_slide(
        accumulator.cells,
        accumulator.quality,
        familiarity_rule,
        model_classes,
        limits,
        field_flags=_field_flags(accumulator),
        n_read=n_read,
        is_wrongly_saved=is_wrongly_saved,
        scan=accumulator.scan_summary,
    )
    _log_quality(accumulator.slide.id, judgment.quality)
    return SlideResult(
        slide=accumulator.slide.id,
        status=SlideStatus.FAILED if not n_read else SlideStatus.PARTIAL if accumulator.failures else SlideStatus.OK,
        fields=len(accumulator.field_hashes),
        failures=tuple(accumulator.failures),
        cells=judgment.cells,
        thumbnails=tuple(accumulator.thumbnails),
        field_thumbnails=tuple(accumulator.field_thumbnails),
        differential=add_absolute_counts(judgment.differential, metadata.analyser_wbc if metadata else None, limits),
        metadata=metadata,
        quality=judgment.quality,
        familiarity=judgment.familiarity,
        scan=accumulator.scan_summary,
    )


def _field_flags(accumulator: SlideAccumulator) -> set[Flag]:
    """Return the flags that depend on the fields' files alone."""
    hashes = [sha256 for _, sha256 in accumulator.field_hashes if sha256 is not None]
    flags = {Flag.FAILED_FIELDS} if accumulator.failures else set()
    if len(set(hashes)) < len(hashes):
        flags.add(Flag.DUPLICATE_FIELDS)
    return flags


def _log_quality(slide: str, qualities: Sequence[FieldQuality]) -> None:
    """Log what is wrong with the quality of a slide's fields."""
    for quality in qualities:
        if quality.blurred:
            log.info("slide %r, field %r: blurred, edges of %.2f µm", slide, quality.field, quality.blur_um)
        if quality.crowded:
            coverage = 100 * (quality.coverage or 0)
            log.info("slide %r, field %r: crowded, %.0f %% covered", slide, quality.field, coverage)
        if quality.stain_out_of_range:
            message = "slide %r, field %r: stain colors differ by ΔE %.0f from the training data"
            log.info(message, slide, quality.field, quality.stain_delta_e)

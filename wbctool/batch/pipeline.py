"""One slide through the stages. The one place that catches whatever a field or a slide may raise."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace

from wbctool.batch.clock import StageClock, add_seconds
from wbctool.batch.looking import FieldLooker, Looked, describe, failure_of
from wbctool.batch.publish import lies_in_a_name
from wbctool.batch.runstate import SeenFiles, SlideOutcome, failed_outcome, fingerprint, slide_basis
from wbctool.batch.slide_files import SlideFiles, make_files
from wbctool.batch.stages import Stages
from wbctool.errors import OutputNotWritable
from wbctool.records import (
    Cell,
    CellPicture,
    FieldFailure,
    FieldPicture,
    Slide,
    SlideResult,
    SlideStatus,
)
from wbctool.report.pictures import enhanced_picture
from wbctool.settings import RunSettings
from wbctool.slide_facts import FieldQuality, SlideMetadata
from wbctool.stages.absolute import limits_for, with_absolute_counts
from wbctool.stages.differential import count_cells
from wbctool.stages.quality import (
    Floats,
    judge_fields,
    quality_flags,
    same_picture_twice,
)

log = logging.getLogger(__name__)

Stopped = Callable[[], bool]

_CELLS_AT_ONCE = 8  # a CPU gains nothing from more, and a signal to stop must not wait for a large batch


class _StoppedInside(Exception):
    """The run was asked to stop while a slide's cells were named."""


@dataclass(slots=True)
class _Analysis:
    hashes: list[tuple[str, str | None]] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    pictures: list[CellPicture] = field(default_factory=list)
    overviews: list[FieldPicture] = field(default_factory=list)
    failures: list[FieldFailure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    quality: list[FieldQuality] = field(default_factory=list)
    thumbnails: list[Floats] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SlideWorker:
    """What it takes to do slides one after the other.

    metadata: of the slides that slides.csv names. pool: looks at fields ahead, in its threads. publish: takes each
    slide's files; on a cluster's worker it keeps them for the coordinator.
    """

    settings: RunSettings
    stages: Stages
    publish: Callable[[SlideFiles], None]
    looker: FieldLooker
    pool: Executor
    seen: SeenFiles
    stopped: Stopped
    field_done: Callable[[], None]
    metadata: Mapping[str, SlideMetadata] = field(default_factory=dict)

    def process(self, slide: Slide) -> SlideOutcome | None:
        """Analyse and publish one slide; None where the run was stopped before its last field.

        Raises OutputNotWritable alone: anything else that goes wrong stays in the slide.
        """
        if slide.problem:
            log.error("slide %r: %s", slide.id, slide.problem)
            return self._failed(slide, "list", slide.problem)
        self.seen.open(slide.id)
        try:
            analysis = self._analyse(slide)
            outcome = None if analysis is None else self._publish(slide, analysis)
            self.seen.save()
            return outcome
        except _StoppedInside:
            return None
        except OutputNotWritable as error:
            if not lies_in_a_name(error):
                raise
            log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
            return self._failed(slide, "write", describe(error))
        except Exception as error:  # a defect in one slide's results must not cost the others theirs
            log.exception("slide %r failed", slide.id)
            return self._failed(slide, "report", describe(error))

    def _failed(self, slide: Slide, stage: str, cause: str) -> SlideOutcome:
        """A slide of which nothing is published; what an earlier run published stays."""
        return failed_outcome(slide, stage, cause, self.stages.provenance.classes)

    def _analyse(self, slide: Slide) -> _Analysis | None:
        analysis, group = _Analysis(), list[Looked]()
        for looked in self._look_ahead(slide):
            if self.stopped():
                return None
            analysis.hashes.append((looked.name, looked.sha256))
            group.append(looked)
            if looked.quality is not None:
                analysis.quality.append(looked.quality)
            if looked.thumbnail is not None and looked.detections:  # empty fields are all alike
                analysis.thumbnails.append(looked.thumbnail)
            if sum(len(member.crops) for member in group) >= self.settings.batch_size:
                self._name_cells(slide, group, analysis)
                group = []
            self.field_done()
        self._name_cells(slide, group, analysis)
        return analysis

    def _look_ahead(self, slide: Slide) -> Iterator[Looked]:
        """Every field in order, a few of them looked at ahead of their turn."""
        ahead: deque[Future[Looked]] = deque()
        paths = iter(slide.fields)
        metadata = self.metadata.get(slide.id)
        um_per_px = metadata.um_per_px if metadata else None
        try:
            while True:
                while len(ahead) < 2 * self.settings.workers and (path := next(paths, None)) is not None:
                    ahead.append(self.pool.submit(self.looker.look, slide.id, path, um_per_px))
                if not ahead:
                    return
                looked = ahead.popleft().result()
                if looked.stamp and looked.sha256:
                    self.seen.note(looked.name, looked.stamp, looked.sha256)
                yield looked
        finally:
            for future in ahead:
                future.cancel()

    def _name_cells(self, slide: Slide, group: Sequence[Looked], analysis: _Analysis) -> None:
        """Classify the cells of some fields together; where that fails, field by field, to find the one at fault."""
        clock = StageClock()
        try:
            named, enhanced = self._classify(group, clock)
        except _StoppedInside:
            raise
        except Exception as error:
            if len(group) > 1:
                for member in group:
                    self._name_cells(slide, [member], analysis)
                return
            analysis.failures.append(failure_of(slide.id, group[0].name, clock.stage, error))
        else:
            analysis.cells += named
            native = [one for member in group for one in member.pictures]
            analysis.pictures += [CellPicture(*both) for both in zip(native, enhanced, strict=True)]
            analysis.overviews += [member.overview for member in group if member.overview]
        analysis.failures += [member.failure for member in group if member.failure]
        for seconds in (clock.seconds, *(member.clock.seconds for member in group)):
            add_seconds(analysis.seconds, seconds)

    def _classify(self, group: Sequence[Looked], clock: StageClock) -> tuple[list[Cell], list[bytes]]:
        """The cells of some fields, and the generator's picture of each; empty where it was not used."""
        at_once = self.settings.batch_size
        if not self.stages.many_at_once:
            at_once = min(at_once, _CELLS_AT_ONCE)
        found = [
            (member.name, index, detection, crop)
            for member in group
            for index, (detection, crop) in enumerate(zip(member.detections, member.crops, strict=True), start=1)
        ]
        cells: list[Cell] = []
        enhanced: list[bytes] = []
        for start in range(0, len(found), at_once):
            if self.stopped():
                raise _StoppedInside
            part = found[start : start + at_once]
            with clock("prepare"):
                prepared = self.stages.prepare([crop for *_, crop in part])
            with clock("classify"):
                predictions = self.stages.classify(prepared.rgb)
            for (name, index, detection, _), super_resolved, prediction in zip(
                part, prepared.super_resolved, predictions, strict=True
            ):
                cells.append(Cell(name, index, detection, super_resolved, prediction))
            with clock("picture"):
                shown = zip(prepared.rgb, prepared.super_resolved, strict=True)
                enhanced += [enhanced_picture(rgb) if used else b"" for rgb, used in shown]
        return cells, enhanced

    def _publish(self, slide: Slide, analysis: _Analysis) -> SlideOutcome:
        clock = StageClock()
        with clock("write"):
            result, hashes = self._result(slide, analysis), tuple(analysis.hashes)
            limits = limits_for(self.settings, result.metadata)
            reference_source = limits.reference_source if limits.adult else ""
            made = make_files(
                result,
                replace(self.stages.provenance, reference_source=reference_source),
                limits,
                hashes,
                fingerprint(hashes, slide_basis(self.stages.basis, result.metadata)),
            )
            self.publish(made)
        add_seconds(analysis.seconds, clock.seconds)
        return SlideOutcome(
            slide.id, result.status, made.state.row, result.failures, analysis.seconds, patient=made.state.patient
        )

    def _result(self, slide: Slide, analysis: _Analysis) -> SlideResult:
        failed = sum(bool(failure.field) for failure in analysis.failures)
        read = len(slide.fields) - failed
        metadata = self.metadata.get(slide.id)
        limits = limits_for(self.settings, metadata)
        quality = judge_fields(analysis.quality, limits)
        _tell_of_quality(slide.id, quality)
        predictions = [cell.prediction for cell in analysis.cells]
        flags = self._field_flags(analysis) | quality_flags(quality, limits)
        differential = count_cells(predictions, self.stages.provenance.classes, limits, flags, read)
        return SlideResult(
            slide=slide.id,
            status=SlideStatus.FAILED if not read else SlideStatus.PARTIAL if analysis.failures else SlideStatus.OK,
            fields=len(slide.fields),
            failures=tuple(analysis.failures),
            cells=tuple(analysis.cells),
            pictures=tuple(analysis.pictures),
            field_pictures=tuple(analysis.overviews),
            differential=with_absolute_counts(differential, metadata.analyser_wbc if metadata else None, limits),
            metadata=metadata,
            quality=quality,
        )

    def _field_flags(self, analysis: _Analysis) -> set[str]:
        contents = [sha256 for _, sha256 in analysis.hashes if sha256 is not None]
        flags = {"failed_fields"} if analysis.failures else set()
        same_file = len(set(contents)) < len(contents)
        if same_file or same_picture_twice(analysis.thumbnails, self.settings.duplicate_correlation):
            flags.add("duplicate_fields")
        return flags


def _tell_of_quality(slide: str, fields: Sequence[FieldQuality]) -> None:
    for quality in fields:
        if quality.blurred:
            log.info("slide %r, field %r: blurred, edges of %.2f µm", slide, quality.field, quality.blur_um)
        if quality.crowded:
            log.info("slide %r, field %r: crowded, %.0f %% covered", slide, quality.field, 100 * (quality.cover or 0))
        if quality.strange:
            log.info("slide %r, field %r: colours %.0f from the training's", slide, quality.field, quality.stain_de)

"""The thread pipeline: fields are analyzed, cells classified and slides published side by side, all in order.

Fields of several slides are in progress at a time, so that no core waits for the end of a slide. This is the one module
that catches whatever a slide may raise.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from wbctool.errors import OutputNotWritable, ReviewedSlideUnreadable
from wbctool.labels import CellClass
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.cell_worker import ClassifiedField, batch_fields, classify_fields
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_source import FieldSource, ImageSource
from wbctool.pipeline.field_worker import FieldAnalysis, analyze_field, format_error
from wbctool.pipeline.ordered_map import map_ordered
from wbctool.pipeline.scan_survey import ScanSurvey
from wbctool.pipeline.slide_accumulator import SlideAccumulator, build_result
from wbctool.store.atomic_write import is_name_error
from wbctool.store.fingerprint import compute_fingerprints
from wbctool.store.hash_cache import HashCache
from wbctool.store.slide_outcome import SlideOutcome, make_failed_outcome
from wbctool.store.slide_record import SlideRecord
from wbctool.store.slide_writer import SlideFiles, make_files
from wbctool.timing import Stage, StageTimer, add_seconds
from wbctool.types.cells import Slide

log = logging.getLogger(__name__)

SlideField = tuple[Slide, FieldSource]


@dataclass(frozen=True, slots=True)
class ThreadPools:
    """The thread pools of a run.

    Attributes:
        detection: One task per field.
        classification: One task per batch of cells; on a CPU the same pool as ``detection``.
        writer: One task per slide, in one thread, so that slides are published in order.
    """

    detection: Executor
    classification: Executor
    writer: Executor

    @classmethod
    @contextmanager
    def create(cls, workers: int, prefers_large_batches: bool, prefix: str = "run") -> Iterator[ThreadPools]:
        """Start the pools, and shut them down at the end.

        Args:
            workers: The number of threads for fields.
            prefers_large_batches: Whether cells are classified on a GPU, and so in a thread of their own.
            prefix: The beginning of the threads' names.

        Yields:
            The pools.
        """
        with ExitStack() as stack:

            def make_pool(n_threads: int, purpose: str) -> ThreadPoolExecutor:
                pool = ThreadPoolExecutor(n_threads, thread_name_prefix=f"{prefix}-{purpose}")
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
                return pool

            detection = make_pool(workers, "cells")
            yield cls(detection, make_pool(1, "gpu") if prefers_large_batches else detection, make_pool(1, "writer"))


def process_fields(
    context: RunContext, stages: BoundStages, pools: ThreadPools, fields: Iterable[SlideField]
) -> Iterator[tuple[FieldAnalysis, ClassifiedField]]:
    """Analyze fields and classify their cells, the cells of several fields together.

    Args:
        context: The run.
        stages: The stages with their models.
        pools: The threads.
        fields: The fields of any slides, taken one by one.

    Yields:
        Each field with its cells, in order, until the run is stopped.
    """
    workers, batch_size = context.settings.workers, context.cells_per_batch

    def analyze(field: SlideField) -> FieldAnalysis:
        return analyze_field(context, stages, *field)

    analyses = map_ordered(pools.detection, analyze, fields, max(2 * workers, batch_size))
    batches = batch_fields((analysis for _, analysis in analyses), batch_size)
    for batch, classified in map_ordered(
        pools.classification,
        partial(classify_fields, context, stages),
        batches,
        1 if context.models.prefers_large_batches else workers,
    ):
        if classified is None or context.should_stop():
            return
        yield from zip(batch, classified, strict=True)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Processes slides in threads of this process.

    Attributes:
        context: The run.
        stages: The stages with their models.
        pools: The threads.
        process_fields: Processes fields, as the function of that name does; on a cluster, other workers may.
        publish: Takes the files of each slide and returns the record that was published, which may have reviews. A
            worker of a cluster keeps them for its coordinator.
        make_hash_cache: Returns the cache that takes the hashes of one slide's fields.
    """

    context: RunContext
    stages: BoundStages
    pools: ThreadPools
    process_fields: Callable[[Iterable[SlideField]], Iterator[tuple[FieldAnalysis, ClassifiedField]]]
    publish: Callable[[SlideFiles], SlideRecord]
    make_hash_cache: Callable[[], HashCache]

    def process_slides(self, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyze and publish slides.

        Args:
            slides: The slides, taken one by one.

        Yields:
            One outcome per slide, in order; if the run is stopped, those of the slides that were complete.

        Raises:
            OutputNotWritable: The output cannot be written. Any other error stays in its slide.
        """
        # With a limit of failures no slide may be published after the one that reaches the limit.
        prefetch = 0 if self.context.settings.max_failures is not None else 1
        for _, outcome in map_ordered(self.pools.writer, self.finish_slide, self.analyze_slides(slides), prefetch):
            yield outcome

    def analyze_slides(self, slides: Iterable[Slide]) -> Iterator[SlideAccumulator]:
        """Analyze the fields of slides and classify their cells.

        Args:
            slides: The slides, taken one by one.

        Yields:
            Each slide with all its fields, in order, until the run is stopped.
        """
        accumulators = deque[SlideAccumulator]()
        fields = self._iter_fields(slides, accumulators)
        for analysis, classified in self.process_fields(fields):
            yield from self._pop_complete(accumulators)
            # Zones of a scan that has enough cells may have been on their way.
            if accumulators and accumulators[0].slide.id == analysis.slide:
                accumulators[0].add(analysis, classified)
                if not accumulators[0].slide.is_scan:
                    self.context.field_done()
            yield from self._pop_complete(accumulators)
        yield from self._pop_complete(accumulators)

    def _iter_fields(self, slides: Iterable[Slide], accumulators: deque[SlideAccumulator]) -> Iterator[SlideField]:
        """Yield the fields of all slides, and append each slide's accumulator before its first field."""
        settings = self.context.settings
        for slide in slides:
            hash_cache = self.make_hash_cache()
            hash_cache.load_slide(slide.id)
            accumulator = SlideAccumulator(slide, hash_cache)
            accumulators.append(accumulator)
            if slide.is_scan:
                files = hash_cache.hash_fields(slide, settings.max_megapixels)
                accumulator.survey = ScanSurvey(self.context, self.stages, slide, files, self.pools.detection)
                accumulator.target_cells = None if settings.cells_per_scan == "all" else settings.cells_per_scan
                yield from self._iter_zones(slide, accumulator, accumulator.survey)
            else:
                accumulator.n_fields = len(slide.fields)
                metadata = self.context.metadata.get(slide.id)
                for path in slide.fields:
                    yield slide, ImageSource(path, settings.max_megapixels, metadata.um_per_px if metadata else None)

    def _iter_zones(self, slide: Slide, accumulator: SlideAccumulator, survey: ScanSurvey) -> Iterator[SlideField]:
        """Yield the zones of a scan until it has enough cells."""
        n_zones = 0
        for zone in survey.iter_zones():
            if accumulator.is_complete:
                return
            n_zones += 1
            yield slide, zone
        if accumulator.n_fields is None and not self.context.should_stop():
            accumulator.n_fields = n_zones

    def _pop_complete(self, accumulators: deque[SlideAccumulator]) -> Iterator[SlideAccumulator]:
        """Remove and yield the complete slides at the front."""
        while accumulators and accumulators[0].is_complete:
            accumulator = accumulators.popleft()
            if accumulator.survey is not None:
                self.context.field_done()
                add_seconds(accumulator.seconds, {Stage.SURVEY: accumulator.survey.seconds})
            yield accumulator

    def finish_slide(self, accumulator: SlideAccumulator) -> SlideOutcome:
        """Publish one slide with all its fields; raises as :func:`publish_or_fail`."""
        slide, classes = accumulator.slide, self.context.models.provenance.classes
        if slide.problem:
            log.error("slide %r: %s", slide.id, slide.problem)
            return make_failed_outcome(slide, Stage.LIST, slide.problem, classes)
        return publish_or_fail(slide, classes, partial(self._build_and_publish, accumulator))

    def _build_and_publish(self, accumulator: SlideAccumulator) -> SlideOutcome:
        """Build the result of a slide, render its files and publish them."""
        timer, slide, classes = StageTimer(), accumulator.slide.id, self.context.models.provenance.classes
        metadata, limits = self.context.metadata.get(slide), self.context.limits_for(slide)
        with timer(Stage.QUALITY):
            accumulator.leave_out_repeated_cells()
        with timer(Stage.WRITE):
            result = build_result(accumulator, classes, limits, metadata, self.stages.familiarity_rule)
            field_hashes = tuple(accumulator.field_hashes)
            cache_key = self.context.cache_key_for(accumulator.slide.is_scan)
            fingerprints = compute_fingerprints(accumulator.source_hashes, cache_key, metadata)
            provenance = self.context.provenance_for(slide, accumulator.slide.is_scan)
            record = self.publish(make_files(result, provenance, limits, field_hashes, fingerprints))
            accumulator.hash_cache.flush()
        add_seconds(accumulator.seconds, timer.seconds)
        return replace(SlideOutcome.from_record(record), seconds=accumulator.seconds)


def publish_or_fail(
    slide: Slide, model_classes: Collection[CellClass], publish: Callable[[], SlideOutcome]
) -> SlideOutcome:
    """Publish one slide, whose defects must not cost the other slides theirs.

    Args:
        slide: The slide.
        model_classes: The classes of the classifier.
        publish: Writes the slide's files and returns its outcome.

    Returns:
        The outcome; if nothing could be published, that of a failed slide, and earlier results stay.

    Raises:
        OutputNotWritable: The output cannot be written, and the slide's name is not the cause.
    """
    try:
        return publish()
    except OutputNotWritable as error:
        if not is_name_error(error):
            raise
        log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
        return make_failed_outcome(slide, Stage.WRITE, format_error(error), model_classes)
    except ReviewedSlideUnreadable as error:
        log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
        return make_failed_outcome(slide, Stage.READ, str(error), model_classes)
    except Exception as error:
        log.exception("slide %r failed", slide.id)
        return make_failed_outcome(slide, Stage.REPORT, format_error(error), model_classes)

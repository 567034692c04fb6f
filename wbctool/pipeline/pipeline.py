"""Slides through the stages: fields are looked at, cells named and results written side by side, all in order.

Fields and cells of several slides are on their way at a time, so that no core waits for a slide's end. The one place
that catches whatever a slide may raise.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

from wbctool.errors import OutputNotWritable
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.cell_worker import BatchClassifier, batch_fields
from wbctool.pipeline.field_worker import FieldAnalysis, FieldAnalyzer, format_error
from wbctool.pipeline.ordered_map import map_ordered
from wbctool.pipeline.slide_accumulator import SlideAccumulator, build_result
from wbctool.settings import RunSettings
from wbctool.stages.absolute_counts import resolve_limits
from wbctool.store.atomic_write import is_name_error
from wbctool.store.hash_cache import HashCache
from wbctool.store.slide_record import SlideOutcome, build_slide_cache_key, fingerprint, make_failed_outcome
from wbctool.store.slide_writer import SlideFiles, make_files
from wbctool.timing import StageTimer, add_seconds
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata

log = logging.getLogger(__name__)

ShouldStop = Callable[[], bool]

_CPU_BATCH_SIZE = 4  # a CPU gains nothing from more, and a signal to stop must not wait for a large batch


@dataclass(frozen=True, slots=True)
class ThreadPools:
    """The threads of a run. detection: at fields. classification: at cells; the same as lookers where both use the CPU.

    writer: one thread, so that slides appear in order.
    """

    detection: Executor
    classification: Executor
    writer: Executor

    @classmethod
    @contextmanager
    def create(cls, workers: int, prefers_large_batches: bool, prefix: str = "run") -> Iterator[ThreadPools]:
        """As many threads as ``workers``, and those beside them. prefix: what their names begin with.

        prefers_large_batches: cells are named on a GPU, by a thread of their own.
        """
        with ExitStack() as stack:

            def make_pool(n_threads: int, purpose: str) -> ThreadPoolExecutor:
                pool = ThreadPoolExecutor(n_threads, thread_name_prefix=f"{prefix}-{purpose}")
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
                return pool

            detection = make_pool(workers, "cells")
            yield cls(detection, make_pool(1, "gpu") if prefers_large_batches else detection, make_pool(1, "writer"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What it takes to do slides.

    publish: takes each slide's files; on a cluster's worker it keeps them for the coordinator. make_hash_cache: makes what notes
    the fields of one slide. field_done: told after each field. metadata: of the slides that slides.csv names.
    large_field_lock: held by the one thread that decodes a large one.
    """

    settings: RunSettings
    stages: BoundStages
    publish: Callable[[SlideFiles], None]
    pools: ThreadPools
    make_hash_cache: Callable[[], HashCache]
    should_stop: ShouldStop
    field_done: Callable[[], None]
    metadata: Mapping[str, SlideMetadata] = field(default_factory=dict)
    large_field_lock: Lock = field(default_factory=Lock)

    def process_slides(self, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Each slide, done and published, in order; where the run is stopped, those that were complete by then.

        Raises OutputNotWritable alone: anything else that goes wrong stays in its slide.
        """
        # Where failures are counted to stop a run, nothing may be published past the one that stops it.
        prefetch = 0 if self.settings.max_failures is not None else 1
        for _, outcome in map_ordered(self.pools.writer, self._publish, self.analyze_slides(slides), prefetch):
            yield outcome

    def analyze_slides(self, slides: Iterable[Slide]) -> Iterator[SlideAccumulator]:
        """Each slide with all its fields looked at and its cells named, in order, until the run is stopped."""
        large_batches = self.stages.prefers_large_batches
        batch_size = self.settings.batch_size if large_batches else min(self.settings.batch_size, _CPU_BATCH_SIZE)
        classifier = BatchClassifier(self.stages, batch_size, self.should_stop)
        accumulators = deque[SlideAccumulator]()
        tasks = self._iter_fields(slides, accumulators)
        analyses = map_ordered(
            self.pools.detection, self._make_analyze_task(), tasks, max(2 * self.settings.workers, batch_size)
        )
        batches = batch_fields((analysis for _, analysis in analyses), batch_size)
        for batch, classified in map_ordered(
            self.pools.classification, classifier.classify, batches, 1 if large_batches else self.settings.workers
        ):
            if classified is None or self.should_stop():
                return
            for field_analysis, classified_field in zip(batch, classified, strict=True):
                yield from _pop_complete(accumulators)
                accumulators[0].add(field_analysis, classified_field)
                self.field_done()
            yield from _pop_complete(accumulators)
        yield from _pop_complete(accumulators)

    def _iter_fields(
        self, slides: Iterable[Slide], accumulators: deque[SlideAccumulator]
    ) -> Iterator[tuple[Slide, Path]]:
        """The fields of all slides. accumulators: takes each slide's analysis as its first field's turn comes."""
        for slide in slides:
            hash_cache = self.make_hash_cache()
            hash_cache.load_slide(slide.id)
            accumulators.append(SlideAccumulator(slide, hash_cache))
            for path in slide.fields:
                yield slide, path

    def _make_analyze_task(self) -> Callable[[tuple[Slide, Path]], FieldAnalysis]:
        analyzer = FieldAnalyzer(self.stages, self.settings.max_megapixels, self.should_stop, self.large_field_lock)

        def analyze(task: tuple[Slide, Path]) -> FieldAnalysis:
            slide, path = task
            metadata = self.metadata.get(slide.id)
            return analyzer.analyze(slide.id, path, metadata.um_per_px if metadata else None)

        return analyze

    def _publish(self, accumulator: SlideAccumulator) -> SlideOutcome:
        """In the writer's thread. Raises OutputNotWritable where that is no fault of the slide's own name."""
        slide = accumulator.slide
        if slide.problem:
            log.error("slide %r: %s", slide.id, slide.problem)
            return self._make_failed_outcome(slide, "list", slide.problem)
        try:
            outcome = self._build_and_publish(accumulator)
            accumulator.hash_cache.flush()
        except OutputNotWritable as error:
            if not is_name_error(error):
                raise
            log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
            return self._make_failed_outcome(slide, "write", format_error(error))
        except Exception as error:  # a defect in one slide's results must not cost the others theirs
            log.exception("slide %r failed", slide.id)
            return self._make_failed_outcome(slide, "report", format_error(error))
        return outcome

    def _build_and_publish(self, accumulator: SlideAccumulator) -> SlideOutcome:
        timer, metadata = StageTimer(), self.metadata.get(accumulator.slide.id)
        with timer("write"):
            result = build_result(accumulator, self.stages.provenance.classes, self.settings, metadata)
            limits = resolve_limits(self.settings, metadata)
            reference_source = limits.reference_source if limits.adult else ""
            field_hashes = tuple(accumulator.field_hashes)
            slide_files = make_files(
                result,
                replace(self.stages.provenance, reference_source=reference_source),
                limits,
                field_hashes,
                fingerprint(field_hashes, build_slide_cache_key(self.stages.cache_key, metadata)),
            )
            self.publish(slide_files)
        add_seconds(accumulator.seconds, timer.seconds)
        return replace(SlideOutcome.from_record(slide_files.record), seconds=accumulator.seconds)

    def _make_failed_outcome(self, slide: Slide, stage: str, cause: str) -> SlideOutcome:
        """A slide of which nothing is published; what an earlier run published stays."""
        return make_failed_outcome(slide, stage, cause, self.stages.provenance.classes)


def _pop_complete(accumulators: deque[SlideAccumulator]) -> Iterator[SlideAccumulator]:
    """Takes the complete ones off the front."""
    while accumulators and accumulators[0].is_complete:
        yield accumulators.popleft()

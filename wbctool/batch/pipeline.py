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

from wbctool.batch.analysis import Analysis, result_of
from wbctool.batch.clock import StageClock, add_seconds
from wbctool.batch.flow import in_order
from wbctool.batch.looking import FieldLooker, Looked, describe
from wbctool.batch.naming import CellNamer, grouped
from wbctool.batch.publish import lies_in_a_name
from wbctool.batch.runstate import SlideOutcome, failed_outcome, fingerprint, slide_basis
from wbctool.batch.seen_files import SeenFiles
from wbctool.batch.slide_files import SlideFiles, make_files
from wbctool.batch.stages import Stages
from wbctool.errors import OutputNotWritable
from wbctool.records import Slide
from wbctool.settings import RunSettings
from wbctool.slide_facts import SlideMetadata
from wbctool.stages.absolute import limits_for

log = logging.getLogger(__name__)

Stopped = Callable[[], bool]

_CELLS_AT_ONCE = 4  # a CPU gains nothing from more, and a signal to stop must not wait for a large batch


@dataclass(frozen=True, slots=True)
class Crew:
    """The threads of a run. lookers: at fields. namers: at cells; the same as lookers where both use the CPU.

    writer: one thread, so that slides appear in order.
    """

    lookers: Executor
    namers: Executor
    writer: Executor

    @classmethod
    @contextmanager
    def of(cls, workers: int, many_at_once: bool, name: str = "run") -> Iterator[Crew]:
        """As many threads as ``workers``, and those beside them. name: what their names begin with.

        many_at_once: cells are named on a GPU, by a thread of their own.
        """
        with ExitStack() as stack:

            def threads(number: int, work: str) -> ThreadPoolExecutor:
                pool = ThreadPoolExecutor(number, thread_name_prefix=f"{name}-{work}")
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
                return pool

            lookers = threads(workers, "cells")
            yield cls(lookers, threads(1, "gpu") if many_at_once else lookers, threads(1, "writer"))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What it takes to do slides.

    publish: takes each slide's files; on a cluster's worker it keeps them for the coordinator. seen: makes what notes
    the fields of one slide. field_done: told after each field. metadata: of the slides that slides.csv names.
    large_field: held by the one thread that decodes a large one.
    """

    settings: RunSettings
    stages: Stages
    publish: Callable[[SlideFiles], None]
    crew: Crew
    seen: Callable[[], SeenFiles]
    stopped: Stopped
    field_done: Callable[[], None]
    metadata: Mapping[str, SlideMetadata] = field(default_factory=dict)
    large_field: Lock = field(default_factory=Lock)

    def outcomes(self, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Each slide, done and published, in order; where the run is stopped, those that were complete by then.

        Raises OutputNotWritable alone: anything else that goes wrong stays in its slide.
        """
        # Where failures are counted to stop a run, nothing may be published past the one that stops it.
        ahead = 0 if self.settings.max_failures is not None else 1
        for _, outcome in in_order(self.crew.writer, self._publish, self.analyses(slides), ahead):
            yield outcome

    def analyses(self, slides: Iterable[Slide]) -> Iterator[Analysis]:
        """Each slide with all its fields looked at and its cells named, in order, until the run is stopped."""
        many = self.stages.many_at_once
        cells_at_once = self.settings.batch_size if many else min(self.settings.batch_size, _CELLS_AT_ONCE)
        namer = CellNamer(self.stages, cells_at_once, self.stopped)
        begun = deque[Analysis]()
        tasks = self._tasks(slides, begun)
        looked = in_order(self.crew.lookers, self._looker(), tasks, max(2 * self.settings.workers, cells_at_once))
        groups = grouped((one for _, one in looked), cells_at_once)
        for group, named in in_order(self.crew.namers, namer.name, groups, 1 if many else self.settings.workers):
            if named is None or self.stopped():
                return
            for field_, cells in zip(group, named, strict=True):
                yield from _complete(begun)
                begun[0].add(field_, cells)
                self.field_done()
            yield from _complete(begun)
        yield from _complete(begun)

    def _tasks(self, slides: Iterable[Slide], begun: deque[Analysis]) -> Iterator[tuple[Slide, Path]]:
        """The fields of all slides. begun: takes each slide's analysis as its first field's turn comes."""
        for slide in slides:
            seen = self.seen()
            seen.open(slide.id)
            begun.append(Analysis(slide, seen))
            for path in slide.fields:
                yield slide, path

    def _looker(self) -> Callable[[tuple[Slide, Path]], Looked]:
        looker = FieldLooker(self.stages, self.settings.max_megapixels, self.stopped, self.large_field)

        def look(task: tuple[Slide, Path]) -> Looked:
            slide, path = task
            metadata = self.metadata.get(slide.id)
            return looker.look(slide.id, path, metadata.um_per_px if metadata else None)

        return look

    def _publish(self, analysis: Analysis) -> SlideOutcome:
        """In the writer's thread. Raises OutputNotWritable where that is no fault of the slide's own name."""
        slide = analysis.slide
        if slide.problem:
            log.error("slide %r: %s", slide.id, slide.problem)
            return self._failed(slide, "list", slide.problem)
        try:
            outcome = self._published(analysis)
            analysis.seen.save()
        except OutputNotWritable as error:
            if not lies_in_a_name(error):
                raise
            log.error("slide %r: %s", slide.id, error)  # noqa: TRY400
            return self._failed(slide, "write", describe(error))
        except Exception as error:  # a defect in one slide's results must not cost the others theirs
            log.exception("slide %r failed", slide.id)
            return self._failed(slide, "report", describe(error))
        return outcome

    def _published(self, analysis: Analysis) -> SlideOutcome:
        clock, metadata = StageClock(), self.metadata.get(analysis.slide.id)
        with clock("write"):
            result = result_of(analysis, self.stages.provenance.classes, self.settings, metadata)
            limits = limits_for(self.settings, metadata)
            reference_source = limits.reference_source if limits.adult else ""
            hashes = tuple(analysis.hashes)
            made = make_files(
                result,
                replace(self.stages.provenance, reference_source=reference_source),
                limits,
                hashes,
                fingerprint(hashes, slide_basis(self.stages.basis, metadata)),
            )
            self.publish(made)
        add_seconds(analysis.seconds, clock.seconds)
        return replace(SlideOutcome.of_state(result.slide, made.state), seconds=analysis.seconds)

    def _failed(self, slide: Slide, stage: str, cause: str) -> SlideOutcome:
        """A slide of which nothing is published; what an earlier run published stays."""
        return failed_outcome(slide, stage, cause, self.stages.provenance.classes)


def _complete(begun: deque[Analysis]) -> Iterator[Analysis]:
    """Takes the complete ones off the front."""
    while begun and begun[0].complete:
        yield begun.popleft()

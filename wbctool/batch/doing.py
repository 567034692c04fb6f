"""Who does the slides of a run: this process, or the workers of a cluster (wbctool.batch.cluster)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from wbctool.batch.looking import FieldLooker
from wbctool.batch.pipeline import SlideWorker, Stopped
from wbctool.batch.runstate import SeenFiles, SlideOutcome
from wbctool.batch.slide_files import publish_files
from wbctool.batch.stages import Stages
from wbctool.layout import OutputLayout
from wbctool.records import Slide
from wbctool.settings import RunSettings
from wbctool.slide_facts import SlideMetadata


@dataclass(frozen=True, slots=True)
class Work:
    """What a run tells whoever does its slides. metadata: of the slides that slides.csv names."""

    settings: RunSettings
    stages: Stages
    layout: OutputLayout
    seen: SeenFiles
    stopped: Stopped
    field_done: Callable[[], None]
    metadata: Mapping[str, SlideMetadata]


class Doer(Protocol):
    """Does slides."""

    def outcomes(self, work: Work, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyse and publish slides: one outcome each, in their order; fewer where the run is stopped.

        slides: taken one by one as there is room for them, so that each is looked at late. Raises OutputNotWritable and
        ClusterUnusable alone: anything else that goes wrong stays in its slide.
        """

    def facts(self) -> Mapping[str, Any]:
        """What run.json says of who did them, as JSON values."""


class Here:
    """This process does them."""

    def outcomes(self, work: Work, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """One after the other."""
        with field_pool(work.settings.workers) as pool:
            worker = SlideWorker(
                work.settings,
                work.stages,
                partial(publish_files, work.layout),
                FieldLooker(work.stages, work.settings.max_megapixels, work.stopped),
                pool,
                work.seen,
                work.stopped,
                work.field_done,
                work.metadata,
            )
            for slide in slides:
                outcome = worker.process(slide)
                if outcome is None:
                    return
                yield outcome

    def facts(self) -> Mapping[str, Any]:
        """Nothing: run.json's head has it."""
        return {}


@contextmanager
def field_pool(workers: int, name: str = "field") -> Iterator[ThreadPoolExecutor]:
    """The threads that look at fields ahead. name: the beginning of theirs."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

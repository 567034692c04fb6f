"""Who does the slides of a run: this process, or the workers of a cluster (wbctool.cluster.executor)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from wbctool.paths import OutputPaths
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.pipeline import Pipeline, ShouldStop, ThreadPools
from wbctool.settings import RunSettings
from wbctool.store.hash_cache import HashCache
from wbctool.store.slide_record import SlideOutcome
from wbctool.store.slide_writer import publish_files
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run tells whoever does its slides. metadata: of the slides that slides.csv names."""

    settings: RunSettings
    stages: BoundStages
    layout: OutputPaths
    hash_cache: HashCache
    should_stop: ShouldStop
    field_done: Callable[[], None]
    metadata: Mapping[str, SlideMetadata]


class SlideExecutor(Protocol):
    """Does slides."""

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyse and publish slides: one outcome each, in their order; fewer where the run is stopped.

        slides: taken one by one as there is room for them, so that each is looked at late. Raises OutputNotWritable and
        ClusterUnusable alone: anything else that goes wrong stays in its slide.
        """

    def describe(self) -> Mapping[str, Any]:
        """What run.json says of who did them, as JSON values."""


class LocalExecutor:
    """This process does them."""

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """In this process's threads."""
        with ThreadPools.create(context.settings.workers, context.stages.prefers_large_batches) as pools:
            pipeline = Pipeline(
                context.settings,
                context.stages,
                partial(publish_files, context.layout),
                pools,
                partial(HashCache, context.layout),
                context.should_stop,
                context.field_done,
                context.metadata,
            )
            yield from pipeline.process_slides(slides)

    def describe(self) -> Mapping[str, Any]:
        """Nothing: run.json's head has it."""
        return {}

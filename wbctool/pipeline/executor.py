"""The interface of whoever processes the slides of a run, and the executor that uses this process's threads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from wbctool.pipeline.context import RunContext
from wbctool.pipeline.pipeline import Pipeline, ThreadPools
from wbctool.store.publish import publish_files
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.types.cells import Slide


class SlideExecutor(Protocol):
    """Processes slides: on this machine, or on a cluster (wbctool.cluster.executor)."""

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyze and publish slides.

        Args:
            context: The run.
            slides: The slides. The next one is taken only if there is room for it, so that it is checked late.

        Yields:
            One outcome per slide, in their order; fewer if the run is stopped.

        Raises:
            OutputNotWritable: The output cannot be written. Any other error stays in its slide.
            ClusterUnusable: No worker is left.
        """

    def describe(self) -> Mapping[str, Any]:
        """Return what run.json records of the executor, as JSON values."""


class LocalExecutor:
    """Processes slides in threads of this process."""

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyze and publish slides; see :class:`SlideExecutor`."""
        with ThreadPools.create(context.settings.workers, context.stages.prefers_large_batches) as pools:
            pipeline = Pipeline(context, pools, partial(publish_files, context.layout), context.make_hash_cache)
            yield from pipeline.process_slides(slides)

    def describe(self) -> Mapping[str, Any]:
        """Return nothing, because the header of run.json names this machine."""
        return {}

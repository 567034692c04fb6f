"""The interface of whoever processes the slides of a run, and the executor that uses this process's threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

from wbctool.pipeline.bound_stages import BoundStages, ModelsInUse
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.pipeline import Pipeline, ThreadPools, process_fields
from wbctool.store.publish import publish_with_reviews
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.types.cells import Slide


class SlideExecutor(Protocol):
    """Processes slides: on this machine, or on a cluster (wbctool.cluster.executor)."""

    def load(self) -> ModelsInUse:
        """Load the models; to be called once, before any slide.

        Raises:
            ClusterUnusable: There is no scheduler, or no worker that can process slides.
            WbctoolError: The models cannot be used; see ``load_models``.
        """

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

    def describe_cluster(self) -> Mapping[str, Any] | None:
        """Return what run.json records of a cluster, as JSON values; None without one, or if no worker was needed."""


class LocalExecutor:
    """Processes slides in threads of this process.

    Args:
        load_stages: Loads the models.
    """

    def __init__(self, load_stages: Callable[[], BoundStages]) -> None:
        self._load_stages = load_stages
        self._stages: BoundStages | None = None

    def load(self) -> ModelsInUse:
        """Load the models; see :class:`SlideExecutor`."""
        self._stages = self._load_stages()
        return self._stages.models

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Analyze and publish slides; see :class:`SlideExecutor`."""
        assert self._stages is not None
        with ThreadPools.create(context.settings.workers, context.models.prefers_large_batches) as pools:
            yield from Pipeline(
                context,
                self._stages,
                pools,
                partial(process_fields, context, self._stages, pools),
                partial(publish_with_reviews, context.output),
                context.make_hash_cache,
            ).process_slides(slides)

    def describe_cluster(self) -> None:
        """Return None: the header of run.json names this machine."""

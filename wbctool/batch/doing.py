"""Who does the slides of a run: this process, or the workers of a cluster (wbctool.batch.cluster)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from wbctool.batch.pipeline import Crew, Pipeline, Stopped
from wbctool.batch.runstate import SlideOutcome
from wbctool.batch.seen_files import SeenFiles
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
        """In this process's threads."""
        with Crew.of(work.settings.workers, work.stages.many_at_once) as crew:
            pipeline = Pipeline(
                work.settings,
                work.stages,
                partial(publish_files, work.layout),
                crew,
                partial(SeenFiles, work.layout),
                work.stopped,
                work.field_done,
                work.metadata,
            )
            yield from pipeline.outcomes(slides)

    def facts(self) -> Mapping[str, Any]:
        """Nothing: run.json's head has it."""
        return {}

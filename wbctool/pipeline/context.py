"""Everything that the steps of a run share, in one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from wbctool.limits import Limits
from wbctool.paths import OutputPaths
from wbctool.pipeline.bound_stages import ModelsInUse
from wbctool.settings import RunSettings
from wbctool.stages.absolute_counts import resolve_limits
from wbctool.store.hash_cache import HashCache
from wbctool.types.progress import Progress, no_progress
from wbctool.types.results import Provenance
from wbctool.types.slides import SlideMetadata

_CPU_BATCH_SIZE = 4  # a CPU gains nothing from more, and a signal to stop must not wait for a large batch

ShouldStop = Callable[[], bool]


class RunStopped(Exception):
    """The run was asked to stop, and a worker ends what it does."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a run knows before its first slide. Every step takes it, in every thread.

    Attributes:
        settings: The settings of the run.
        models: What is known of the models.
        metadata: The rows of slides.csv, by slide id; slides that it does not name are missing here.
        should_stop: Returns whether the run was asked to stop. It is called between fields and between batches.
        field_done: Called after each field, in the thread that fetches the outcomes.
        track: Shows the progress within a field of many tiles or cells. It is called in any thread.
        now: Returns the Unix time in seconds.
        large_field_lock: Held by the one thread that decodes a large field.
    """

    settings: RunSettings
    models: ModelsInUse
    metadata: Mapping[str, SlideMetadata] = field(default_factory=dict)
    should_stop: ShouldStop = lambda: False
    field_done: Callable[[], None] = lambda: None
    track: Progress = no_progress
    now: Callable[[], float] = time.time
    large_field_lock: Lock = field(default_factory=Lock)

    @property
    def output(self) -> OutputPaths:
        """The paths of the output files."""
        return OutputPaths.from_out(self.settings.out)

    @property
    def cells_per_batch(self) -> int:
        """The most cells that are classified together."""
        size = self.settings.batch_size
        return size if self.models.prefers_large_batches else min(size, _CPU_BATCH_SIZE)

    def make_hash_cache(self) -> HashCache:
        """Return a cache of the content hashes of one slide's files."""
        return HashCache(self.output, self.now)

    def limits_for(self, slide: str) -> Limits:
        """Return the limits of one slide, which depend on its patient's age."""
        return resolve_limits(self.settings.limits, self.metadata.get(slide))

    def cache_key_for(self, is_scan: bool) -> Mapping[str, Any]:
        """Return what the results of a slide depend on except its files and its line of slides.csv."""
        return {**self.models.cache_key, **({"scan": self.settings.scan_settings()} if is_scan else {})}

    def provenance_for(self, slide: str, is_scan: bool) -> Provenance:
        """Return how the results of one slide are made; the source of the ranges is named only if they apply."""
        limits, provenance = self.limits_for(slide), self.models.provenance
        own = self.settings.scan_settings() if is_scan else {}
        return replace(
            provenance,
            settings=(*provenance.settings, *((name, str(value)) for name, value in own.items())),
            reference_source=limits.reference_source if limits.adult else "",
        )

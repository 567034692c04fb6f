"""The worker's side of a run: a Dask plugin that loads the models once and processes slides and zones of scans.

Dask sets it up on the workers that there are and on those that join. Workers only read; the coordinator publishes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import pickle
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

from distributed import Reschedule, Worker, WorkerPlugin

import wbctool
from wbctool.cluster.log_records import collect_log_records
from wbctool.cluster.messages import SlideCompleted, WorkerReport, ZonesCompleted
from wbctool.cluster.zones import Zones, ZoneTasks
from wbctool.enums import Device, Precision, Readers
from wbctool.errors import ClusterUnusable, SlidesNotFound
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import default_models_dir, read_card
from wbctool.inference.model_folder import card_paths
from wbctool.pipeline.bound_stages import BoundStages, bind_stages
from wbctool.pipeline.cell_worker import ClassifiedField
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_worker import FieldAnalysis, format_error
from wbctool.pipeline.pipeline import Pipeline, SlideField, ThreadPools, process_fields
from wbctool.settings import RunSettings
from wbctool.store.hash_cache import HashCache
from wbctool.store.slide_record import SlideRecord
from wbctool.store.slide_writer import SlideFiles
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata

SLIDE_RESOURCE = "wbctool-slide"
"""The Dask resource that a slide or some zones of a scan take.

A worker has one of it, also if several runs share the worker, so that its threads are taken once.
"""


@dataclass(frozen=True, slots=True)
class _Task:
    """What a task works with.

    Attributes:
        context: The run on this worker.
        stages: The stages with their models.
        pools: The threads of the task.
        log_records: What these have logged so far.
    """

    context: RunContext
    stages: BoundStages
    pools: ThreadPools
    log_records: list[dict[str, Any]]

    def process_fields(self, fields: Iterable[SlideField]) -> Iterator[tuple[FieldAnalysis, ClassifiedField]]:
        """Process fields in the threads of the task."""
        return process_fields(self.context, self.stages, self.pools, fields)


class RunPlugin(WorkerPlugin):
    """One run on one worker.

    Args:
        name: The run's name on the cluster, and the topic under which the worker reports how the setup ended.
        settings: The settings of the run.

    Attributes:
        zone_resource: The Dask resource of the workers whose results are those of this one; empty until the setup ends.
    """

    def __init__(self, name: str, settings: RunSettings) -> None:
        self.name = name
        self._version = wbctool.__version__
        self._pickled_settings = pickle.dumps(settings)  # another version might not be able to unpickle them
        self._loaded: tuple[RunSettings, BoundStages] | None = None
        self.zone_resource = ""
        self._stopped = False

    async def setup(self, worker: Worker) -> None:
        """Load the models, in a thread, so that the worker goes on answering the scheduler."""
        report = WorkerReport(str(worker.contact_address), platform.node())
        try:
            report = await asyncio.to_thread(self._load, report)
            same_results = hashlib.sha256(f"{report.provider} {report.cache_key}".encode()).hexdigest()
            self.zone_resource = f"wbctool-zone-{self.name}-{same_results}"
            await worker.set_resources(**{SLIDE_RESOURCE: 1, self.zone_resource: 1})
        except Exception as error:
            report = WorkerReport(report.address, report.host, format_error(error))
        worker.log_event(self.name, {"report": asdict(report)})

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002, Dask's signature
        """Stop what is at hand after its current field."""
        self._stopped = True

    def process_slide(
        self, slide: Slide, metadata: SlideMetadata | None, n_threads: int, zone_tasks: ZoneTasks | None = None
    ) -> SlideCompleted:
        """Process a slide.

        Args:
            slide: The slide.
            metadata: Its row of slides.csv; None if it has none.
            n_threads: The number of fields at a time; with a GPU the settings say it.
            zone_tasks: The tasks that process the fields; None if this worker does.

        Returns:
            The processed slide.

        Raises:
            Reschedule: The worker has just been started and is not ready, or the run has ended.
        """
        files, hashes = list[SlideFiles](), HashCache(None)

        def keep(slide_files: SlideFiles) -> SlideRecord:
            files.append(slide_files)
            return slide_files.record

        with self._start(n_threads, {slide.id: metadata} if metadata else {}) as task:
            process_slide_fields = partial(zone_tasks.process, task.context) if zone_tasks else task.process_fields
            pipeline = Pipeline(task.context, task.stages, task.pools, process_slide_fields, keep, lambda: hashes)
            accumulator = next(pipeline.analyze_slides([slide]), None)
            if accumulator is None:
                raise Reschedule
            outcome = pipeline.finish_slide(accumulator)
            batch_sizes = {**task.context.models.batch_sizes(), **(zone_tasks.batch_sizes if zone_tasks else {})}
        return SlideCompleted(
            platform.node(),
            outcome,
            files[0] if files else None,
            hashes.remembered,
            tuple(task.log_records),
            batch_sizes,
        )

    def process_zones(self, zones: Zones, n_threads: int) -> ZonesCompleted:
        """Process some zones of a scan.

        Args:
            zones: The zones.
            n_threads: The number of zones at a time; with a GPU the settings say it.

        Returns:
            The processed zones.

        Raises:
            Reschedule: The worker is not ready, or the run has ended.
        """
        with self._start(n_threads, {}) as task:
            fields = tuple(
                (replace(analysis, crops=(), thumbnails=(), detections=()), classified)
                for analysis, classified in task.process_fields(zones)
            )
            if len(fields) < len(zones):
                raise Reschedule
            return ZonesCompleted(fields, tuple(task.log_records), dict(task.context.models.batch_sizes()))

    def count_threads(self, n_threads: int) -> int:
        """Return how many fields are processed at a time.

        Args:
            n_threads: The worker's threads; with a GPU the settings say it.

        Raises:
            Reschedule: The worker is not ready.
        """
        if self._loaded is None:
            raise Reschedule
        settings, stages = self._loaded
        return settings.workers if stages.models.prefers_large_batches else n_threads

    @contextmanager
    def _start(self, n_threads: int, metadata: Mapping[str, SlideMetadata]) -> Iterator[_Task]:
        """Start the threads of a task, and collect what they log."""
        if self._loaded is None:
            raise Reschedule
        settings, stages = self._loaded
        context = RunContext(
            settings, stages.models, metadata, should_stop=lambda: self._stopped, large_field_lock=_LARGE_FIELD_LOCK
        )
        prefix = f"task-{get_ident()}"
        with (
            collect_log_records(f"{prefix}-") as log_records,
            ThreadPools.create(self.count_threads(n_threads), stages.models.prefers_large_batches, prefix) as pools,
        ):
            yield _Task(context, stages, pools, log_records)

    def _load(self, report: WorkerReport) -> WorkerReport:
        """Load the models, and return the report with what the results depend on; raises what keeps it from that."""
        mismatch = version_mismatch(wbctool.__version__, self._version)
        if mismatch:
            raise ClusterUnusable(f"it {mismatch}")
        settings: RunSettings = pickle.loads(self._pickled_settings)  # noqa: S301, Dask unpickles the plugin as well
        if not settings.slides.exists():
            raise SlidesNotFound(f"{settings.slides} cannot be seen from this machine")
        models = cached_models(
            settings.models_dir or default_models_dir(), settings.device, settings.precision, settings.readers
        )
        stages = bind_stages(models, settings)
        self._loaded = settings, stages
        cache_key, provider = json.dumps(stages.models.cache_key), stages.models.provenance.provider
        return WorkerReport(report.address, report.host, "", provider, cache_key, stages.models.device_message)


_LARGE_FIELD_LOCK = Lock()


def version_mismatch(version: object, expected: str) -> str:
    """Return how a process's version of wbctool differs from the expected one; empty if it does not.

    Args:
        version: The version; None if the process has no wbctool.
        expected: The version of the run.
    """
    if version == expected:
        return ""
    return f"has {f'wbctool {version}' if version else 'no wbctool'}, but this run uses wbctool {expected}"


def cached_models(folder: Path, device: Device, precision: Precision, readers: Readers) -> Models:
    """Load models, unless this process has loaded the same ones last; see ``load_models``."""
    cards = tuple(read_card(path).model_dump_json() for path in card_paths(folder))  # with the SHA-256 of each model
    return _load_models(folder, device, precision, readers, cards)


@lru_cache(maxsize=1)
def _load_models(
    folder: Path,
    device: Device,
    precision: Precision,
    readers: Readers,
    cards: tuple[str, ...],  # noqa: ARG001
) -> Models:
    """Load models anew if any of the arguments has changed."""
    return load_models(folder, device, precision, readers, threads=1)

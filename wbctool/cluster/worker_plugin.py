"""The worker's side of a run: a Dask plugin that loads the models once and processes one slide at a time.

Dask sets it up on the workers that there are and on those that join. Workers only read; the coordinator publishes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import platform
import time
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from distributed import Reschedule, Worker, WorkerPlugin, get_worker

import wbctool
from wbctool.cluster.messages import FieldNotVisible, SlideCompleted, WorkerReport
from wbctool.enums import Device, Precision, Readers
from wbctool.errors import ClusterUnusable, SlidesNotFound, WbctoolError
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import default_models_dir, read_card
from wbctool.inference.model_folder import card_paths
from wbctool.pipeline.bound_stages import BoundStages, bind_stages
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_worker import format_error
from wbctool.pipeline.pipeline import Pipeline, ThreadPools
from wbctool.settings import RunSettings
from wbctool.store.hash_cache import FileStat, HashCache
from wbctool.store.slide_record import SlideRecord
from wbctool.store.slide_writer import SlideFiles
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata

SLIDE_RESOURCE = "wbctool-slide"
"""The Dask resource that a slide takes and of which a worker has one, also if several runs share the worker."""
_VISIBILITY_TIMEOUT_S = 10.0  # a network file system may show a new file late
_POLL_S = 0.5


class RunPlugin(WorkerPlugin):
    """One run on one worker, which reports under the topic ``name`` how the setup ended."""

    def __init__(self, name: str, settings: RunSettings) -> None:
        self.name = name
        self._version = wbctool.__version__
        self._pickled_settings = pickle.dumps(settings)  # another version might not be able to unpickle them
        self._loaded: tuple[RunSettings, BoundStages] | None = None
        self._stopped = False

    async def setup(self, worker: Worker) -> None:
        """Load the models, in a thread, so that the worker goes on answering the scheduler."""
        report = WorkerReport(str(worker.contact_address), platform.node())
        try:
            report = await asyncio.to_thread(self._load, report)
            await worker.set_resources(**{SLIDE_RESOURCE: 1})
        except Exception as error:
            report = WorkerReport(report.address, report.host, format_error(error))
        worker.log_event(self.name, {"report": asdict(report)})

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002, Dask's signature
        """Stop the slide at hand after its current field."""
        self._stopped = True

    def process(self, slide: Slide, metadata: SlideMetadata | None, n_threads: int) -> SlideCompleted:
        """Process a slide, ``n_threads`` fields at a time; with a GPU the settings say how many.

        Raises:
            Reschedule: The worker has just been started and is not ready, or the run has ended.
        """
        if self._loaded is None:
            raise Reschedule
        settings, stages = self._loaded
        files, hashes, log_records = list[SlideFiles](), _HashRecorder(), _LogCollector()
        logger = logging.getLogger("wbctool")
        logger.setLevel(logging.INFO)
        logger.addHandler(log_records)

        def keep(slide_files: SlideFiles) -> SlideRecord:
            files.append(slide_files)
            return slide_files.record

        try:
            with ThreadPools.create(
                settings.workers if stages.prefers_large_batches else n_threads, stages.prefers_large_batches
            ) as pools:
                context = RunContext(
                    settings,
                    stages,
                    {slide.id: metadata} if metadata else {},
                    should_stop=lambda: self._stopped,
                    large_field_lock=_LARGE_FIELD_LOCK,
                )
                pipeline = Pipeline(context, pools, keep, lambda: hashes)
                outcome = next(pipeline.process_slides([slide]), None)
        finally:
            logger.removeHandler(log_records)
        if outcome is None:
            raise Reschedule
        return SlideCompleted(
            platform.node(),
            outcome,
            files[0] if files else None,
            tuple(hashes.recorded),
            tuple(log_records.recorded),
            dict(stages.batch_sizes()),
        )

    def _load(self, report: WorkerReport) -> WorkerReport:
        mismatch = version_mismatch(wbctool.__version__, self._version)
        if mismatch:
            raise ClusterUnusable(f"it {mismatch}")
        settings: RunSettings = pickle.loads(self._pickled_settings)  # noqa: S301, Dask unpickles the plugin as well
        if not settings.slides.is_dir():
            raise SlidesNotFound(f"{settings.slides} cannot be seen from this machine")
        models = cached_models(
            settings.models_dir or default_models_dir(), settings.device, settings.precision, settings.readers
        )
        stages = bind_stages(models, settings)
        self._loaded = settings, stages
        cache_key, provider = json.dumps(stages.cache_key), stages.provenance.provider
        return WorkerReport(report.address, report.host, "", provider, cache_key, stages.device_message)


_LARGE_FIELD_LOCK = Lock()


def process_slide(
    run: str, slide: Slide, metadata: SlideMetadata | None, allow_missing: bool
) -> SlideCompleted | FieldNotVisible:
    """Process a slide with the plugin named ``run``, as a Dask task; ``allow_missing`` even if a field is missing.

    Raises:
        Reschedule: The worker is not ready; Dask submits the slide again.
        WbctoolError: Whatever else went wrong, with the machine's name.
    """
    worker = get_worker()
    try:
        missing = None if allow_missing else _missing_field(slide)
        if missing is not None:
            return FieldNotVisible(str(worker.contact_address), missing)
        plugin = worker.plugins[run]
        assert isinstance(plugin, RunPlugin)
        return plugin.process(slide, metadata, worker.state.nthreads)
    except (KeyError, Reschedule):
        time.sleep(_POLL_S)
        raise Reschedule from None
    except Exception as error:
        raise WbctoolError(f"{platform.node()}: {format_error(error)}") from None


def version_mismatch(version: object, expected: str) -> str:
    """Say how a process's version of wbctool, None if it has none, differs from the expected; empty if it does not."""
    if version == expected:
        return ""
    return f"has {f'wbctool {version}' if version else 'no wbctool'}, but this run uses wbctool {expected}"


def cached_models(folder: Path, device: Device, precision: Precision, readers: Readers) -> Models:
    """Load models, unless this process has loaded the same ones last; raises as load_models."""
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
    return load_models(folder, device, precision, readers, threads=1)


def _missing_field(slide: Slide) -> Path | None:
    """The first field that does not appear in time."""
    deadline = time.monotonic() + _VISIBILITY_TIMEOUT_S
    for path in slide.fields:
        while not path.is_file():
            if time.monotonic() > deadline:
                return path
            with suppress(OSError):
                next(path.parent.iterdir(), None)  # makes a network file system look again
            time.sleep(_POLL_S)
    return None


class _HashRecorder(HashCache):
    """Keeps the fields' hashes for the coordinator, which writes them."""

    def __init__(self) -> None:
        self._stored, self._current = {}, {}
        self.recorded: list[tuple[str, FileStat, str]] = []

    def load_slide(self, slide: str) -> None: ...

    def flush(self) -> None: ...

    def remember(self, name: str, file_stat: FileStat, sha256: str) -> None:
        self.recorded.append((name, file_stat, sha256))


class _LogCollector(logging.Handler):
    """Keeps log records in a form that can be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        kept = {name: getattr(record, name) for name in ("name", "levelno", "levelname")}
        traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else None
        self.recorded.append({**kept, "msg": record.getMessage(), "exc_text": traceback})

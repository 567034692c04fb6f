"""A run on a Dask cluster, the worker's side: models loaded once a process and kept, and one slide at a time.

A worker reads the slides' fields and writes nothing: what it makes of a slide goes back as bytes. The coordinator
(wbctool.cluster.executor) sends references to the functions here; Dask runs them in the worker's threads.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wbctool
from wbctool.cluster.messages import Equipment, Failed, Job, LogLine, SlideDone, Unknown, Unseen
from wbctool.enums import Device, Precision
from wbctool.errors import SlidesNotFound
from wbctool.inference.model_card import default_models_dir, read_card
from wbctool.inference.model_folder import card_paths
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.field_worker import format_error
from wbctool.settings import RunSettings
from wbctool.store.hash_cache import FileStat, HashCache
from wbctool.store.slide_writer import SlideFiles
from wbctool.types.cells import Slide
from wbctool.types.slides import SlideMetadata

_JOBS_KEPT = 4  # a coordinator that was killed does not say that its run is over; more only while they are in use
_IDLE_S = 600.0
_SIGHT_S = 10.0  # a network file system may show a new file late
_BETWEEN_LOOKS_S = 0.5


@dataclass(slots=True)
class _Run:
    settings: RunSettings
    stages: BoundStages
    slides: int = 0  # that are being done
    used: float = field(default_factory=time.monotonic)
    stopped: threading.Event = field(default_factory=threading.Event)
    large_field: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class _Process:
    """What this process keeps between slides: that is what spares it the loading of models."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    runs: dict[str, _Run] = field(default_factory=dict)
    models: tuple[object, Any] = (None, None)
    loading: threading.Lock = field(default_factory=threading.Lock)
    keeping: threading.Lock = field(default_factory=threading.Lock)  # runs; never held for long


_PROCESS = _Process()


def equip(job: Job) -> Equipment | Failed:
    """Get ready for a run: load its models, unless they are here from an earlier one."""
    try:
        return _equipped(job)
    except Exception as error:
        return Failed(format_error(error))


def _equipped(job: Job) -> Equipment:
    from distributed import get_worker

    from wbctool.pipeline.bound_stages import bind_stages

    settings = job.settings
    if not settings.slides.is_dir():
        raise SlidesNotFound(f"{settings.slides} cannot be seen from this machine")
    with _PROCESS.loading:
        models = _kept_models(settings.models_dir or default_models_dir(), settings.device, settings.precision)
    stages = bind_stages(models, settings)
    _keep(job.id, _Run(settings, stages))
    return Equipment(
        process=_PROCESS.id,
        host=platform.node(),
        gpus=get_worker().state.total_resources.get("GPU", 0.0),
        tool_version=wbctool.__version__,
        provenance=stages.provenance,
        basis=stages.cache_key,
        device_note=stages.device_message,
    )


def do_slide(
    job_id: str, process: str, slide: Slide, metadata: SlideMetadata | None, as_it_is: bool
) -> SlideDone | Unknown | Unseen | Failed:
    """Do one slide. process: whose :func:`equip` was asked. as_it_is: even if a field is not to be seen."""
    with _in_use(job_id) as run:
        if run is None or process != _PROCESS.id:
            return Unknown(_PROCESS.id)
        try:
            unseen = None if as_it_is else _unseen_field(slide)
            return _analysed(run, slide, metadata) if unseen is None else Unseen(unseen)
        except Exception as error:
            return Failed(format_error(error))


async def stand_down(job_id: str) -> None:
    """The run is over: a slide that is being done for it stops after the field at hand."""
    with _PROCESS.keeping:
        run = _PROCESS.runs.pop(job_id, None)
    if run is not None:
        run.stopped.set()


def _keep(job_id: str, run: _Run) -> None:
    """Keep a run; of more than _JOBS_KEPT those go that no slide has been done for in a while, the longest idle first.

    One that goes on after all is told to this process once more.
    """
    with _PROCESS.keeping:
        _PROCESS.runs[job_id] = run
        idle = [id_ for id_, other in _PROCESS.runs.items() if not other.slides and _idle_s(other) > _IDLE_S]
        idle.sort(key=lambda id_: _PROCESS.runs[id_].used)
        for id_ in idle[: max(0, len(_PROCESS.runs) - _JOBS_KEPT)]:
            del _PROCESS.runs[id_]


def _idle_s(run: _Run) -> float:
    return time.monotonic() - run.used


@contextmanager
def _in_use(job_id: str) -> Iterator[_Run | None]:
    """A run while a slide is being done for it; None where this process does not know it."""
    with _PROCESS.keeping:
        run = _PROCESS.runs.get(job_id)
        if run is not None:
            run.slides += 1
    try:
        yield run
    finally:
        if run is not None:
            with _PROCESS.keeping:
                run.slides -= 1
                run.used = time.monotonic()


def _kept_models(folder: Path, device: Device, precision: Precision) -> Any:
    from wbctool.inference.loading import load_models

    cards = {path.name: read_card(path) for path in card_paths(folder)}  # they name the models' bytes
    key = (folder, device, precision, cards)
    kept, models = _PROCESS.models
    if key != kept:
        models = load_models(folder, device, precision, threads=1)
        _PROCESS.models = (key, models)
    return models


def _unseen_field(slide: Slide) -> Path | None:
    """The first field that is not there, after some patience."""
    give_up = time.monotonic() + _SIGHT_S
    for path in slide.fields:
        while not path.is_file():
            if time.monotonic() > give_up:
                return path
            with suppress(OSError):
                next(path.parent.iterdir(), None)  # makes a network file system look again
            time.sleep(_BETWEEN_LOOKS_S)
    return None


def _analysed(run: _Run, slide: Slide, metadata: SlideMetadata | None) -> SlideDone | Unknown:
    from wbctool.pipeline.context import RunContext
    from wbctool.pipeline.pipeline import Pipeline, ThreadPools

    made: list[SlideFiles] = []
    seen = _Seen()
    threads = f"slide-{uuid.uuid4().hex}"
    lookers = (
        run.settings.workers if run.stages.prefers_large_batches else 1
    )  # without a GPU the cores are Dask's to share out
    with _log_of(threads) as lines, ThreadPools.create(lookers, run.stages.prefers_large_batches, threads) as crew:
        context = RunContext(
            run.settings,
            run.stages,
            {slide.id: metadata} if metadata else {},
            run.stopped.is_set,
            large_field_lock=run.large_field,
        )
        pipeline = Pipeline(context, crew, made.append, lambda: seen)
        outcome = next(pipeline.process_slides([slide]), None)
    if outcome is None:
        return Unknown(_PROCESS.id)
    return SlideDone(
        outcome, made[0] if made else None, tuple(seen.noted), tuple(lines), dict(run.stages.batch_sizes())
    )


class _Seen(HashCache):
    """Keeps what was seen of a slide for the coordinator's ``.seen.json``."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, FileStat, str]] = []

    def load_slide(self, slide: str) -> None:
        """Nothing to read."""

    def flush(self) -> None:
        """Nothing to write."""

    def remember(self, name: str, file_stat: FileStat, sha256: str) -> None:
        """Keep it."""
        self.noted.append((name, file_stat, sha256))


@contextmanager
def _log_of(threads: str) -> Iterator[list[LogLine]]:
    """What this thread, and those whose names begin like that, have to say; other slides' threads have their own."""
    lines: list[LogLine] = []
    this = threading.current_thread().name
    handler = _Collector(lines.append, lambda thread: thread == this or thread.startswith(threads))
    logger = logging.getLogger("wbctool")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)


class _Collector(logging.Handler):
    def __init__(self, keep: Callable[[LogLine], None], ours: Callable[[str], bool]) -> None:
        super().__init__()
        self._keep, self._ours = keep, ours

    def emit(self, record: logging.LogRecord) -> None:
        if self._ours(record.threadName or ""):
            told = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
            self._keep(LogLine(record.name, record.levelno, record.getMessage(), told.rstrip()))

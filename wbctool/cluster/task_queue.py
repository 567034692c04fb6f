"""Slides in transit: each submitted to one idle worker, and published here in slide order.

A worker has one slide at a time, so its death is held against that slide alone. What Dask cannot know is decided here:
how many slides may be in transit, what a reply means, and that a slide has failed if several workers died with it. The
worker that has a scan shares its zones with all workers (wbctool.cluster.zones).
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from distributed import Client, Future

from wbctool.cluster.log_records import log_again
from wbctool.cluster.messages import FieldNotVisible, SlideCompleted
from wbctool.cluster.tasks import process_slide
from wbctool.cluster.worker_plugin import SLIDE_RESOURCE
from wbctool.cluster.workers import WorkerPool
from wbctool.errors import ClusterUnusable
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_worker import format_error
from wbctool.pipeline.pipeline import publish_or_fail
from wbctool.store.publish import publish_with_reviews
from wbctool.store.slide_outcome import SlideOutcome, make_failed_outcome
from wbctool.timing import Stage, StageTimer, add_seconds
from wbctool.types.cells import Slide

log = logging.getLogger(__name__)

SLIDES_PER_WORKER = 4
"""Slides in transit per worker: being processed, or waiting for an earlier one to be published."""
_POLL_S = 0.05
_FETCH_TIMEOUT_S = 10.0  # its worker may just have died; then Dask has the slide processed again


@dataclass(frozen=True, slots=True)
class ClusterLimits:
    """How long and how often a run tries.

    Attributes:
        connect_s: How long it tries to reach the scheduler.
        no_worker_s: How long it waits for a worker; a nanny or a queue may be about to start one.
        max_attempts: The number of dead workers after which a slide has failed.
    """

    connect_s: float = 5.0
    no_worker_s: float = 300.0
    max_attempts: int = 3


@dataclass(slots=True)
class _Task:
    """A slide in transit.

    Attributes:
        slide: The slide.
        future: Its Dask task; None if no worker has it.
        worker: The address of the worker that has it; empty if none has.
        allow_missing: Whether it is processed even if a field is missing.
        failures: Why earlier attempts failed.
        reply: The processed slide; None before that.
        outcome: The outcome of a slide that has failed for good; None for any other.
    """

    slide: Slide
    future: Future[Any] | None = None
    worker: str = ""
    allow_missing: bool = False
    failures: list[str] = field(default_factory=list)
    reply: SlideCompleted | None = None
    outcome: SlideOutcome | None = None

    @property
    def is_open(self) -> bool:
        """Whether a worker must still process the slide."""
        return self.reply is None and self.outcome is None

    def withdraw(self) -> None:
        """Take the slide back from Dask."""
        if self.future is not None:
            self.future.release()
        self.future, self.worker = None, ""


class TaskQueue:
    """A run's slides in transit.

    Args:
        client: Connected to the scheduler.
        pool: The workers.
        context: The run.
        limits: How long and how often to try.

    Attributes:
        hosts: Name of the machine that processed each slide.
        batch_sizes: Cells per batch of each model, the fewest of any worker.
    """

    def __init__(self, client: Client, pool: WorkerPool, context: RunContext, limits: ClusterLimits) -> None:
        self._client, self._pool, self._context, self._limits = client, pool, context, limits
        self._tasks = deque[_Task]()
        self._last_worker_at = time.monotonic()
        self.hosts: dict[str, str] = {}
        self.batch_sizes: dict[str, int] = {}

    def process_slides(self, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Process and publish slides; see ``SlideExecutor``."""
        tasks, supply, is_last_taken = self._tasks, iter(slides), False
        try:
            while not self._context.should_stop():
                self._check_workers()
                for task in tasks:
                    if task.future is not None and task.future.done():
                        self._collect(task, task.future)
                while not is_last_taken and self._has_room():
                    slide = next(supply, None)
                    is_last_taken = slide is None
                    if slide is not None:
                        tasks.append(_Task(slide))
                self._submit_open()
                if not tasks and is_last_taken:
                    return
                if tasks and not tasks[0].is_open:
                    yield self._publish(tasks.popleft())
                else:
                    time.sleep(_POLL_S)
        finally:
            for task in tasks:
                task.withdraw()

    def _has_room(self) -> bool:
        """Return whether another slide may be taken: a worker has one open slide."""
        n_open, n_workers = sum(task.is_open for task in self._tasks), len(self._pool.available)
        return n_open < n_workers and len(self._tasks) < SLIDES_PER_WORKER * n_workers

    def _check_workers(self) -> None:
        """Count the attempts of slides whose workers died.

        Raises:
            ClusterUnusable: There has long been no worker.
        """
        died = self._pool.poll()
        for task in self._tasks:
            if task.is_open and task.future is not None and task.future.key in died:
                self._count_failure(task, f"{died[task.future.key]} died while processing it")
                task.withdraw()
        now = time.monotonic()
        if self._pool.available:
            self._last_worker_at = now
        elif now - self._last_worker_at > self._limits.no_worker_s:
            raise ClusterUnusable(f"no worker has been left for {self._limits.no_worker_s:.0f} seconds")

    def _submit_open(self) -> None:
        """Submit the slides that no worker has, or that were with a worker that has gone."""
        busy = {task.worker for task in self._tasks if task.is_open}
        idle = [address for address in self._pool.available if address not in busy]
        for task in self._tasks:
            if task.slide.problem and task.is_open:
                self._fail(task, Stage.LIST, task.slide.problem)
            elif task.is_open and task.worker not in self._pool.available:
                task.withdraw()
                if idle:
                    self._submit(task, idle.pop(0))

    def _submit(self, task: _Task, worker: str) -> None:
        """Submit a slide to a worker."""
        slide = task.slide
        task.worker = worker
        task.future = self._client.submit(
            process_slide,
            self._pool.run,
            replace(slide, folder=slide.folder.absolute(), fields=tuple(path.absolute() for path in slide.fields)),
            self._context.metadata.get(slide.id),
            task.allow_missing,
            workers=[worker],
            resources={} if slide.is_scan else {SLIDE_RESOURCE: 1},  # the zones of a scan take it
            pure=False,
        )

    def _collect(self, task: _Task, future: Future[Any]) -> None:
        """Take in what a worker made of a slide.

        Raises:
            ClusterUnusable: Dask has dropped the slide.
        """
        if future.status == "cancelled":
            raise ClusterUnusable("the Dask scheduler has dropped the slides of this run")
        try:
            reply: SlideCompleted | FieldNotVisible = future.result(timeout=_FETCH_TIMEOUT_S)
        except TimeoutError:
            return
        except Exception as error:  # the slide's, or the network's
            if future.status == "error":
                self._fail(task, Stage.CLUSTER, format_error(error))
            else:
                self._count_failure(task, f"its results were lost in transit: {error!r}")
        else:
            if isinstance(reply, SlideCompleted):
                task.reply = reply
            elif reply.path.is_file():
                self._pool.reject(reply.address, f"it cannot see {reply.path}")
            else:
                task.allow_missing = True  # gone from here too: the field fails, as on one machine
        task.withdraw()

    def _publish(self, task: _Task) -> SlideOutcome:
        """Publish a slide that was processed or has failed."""
        outcome = task.outcome
        if outcome is None:
            assert task.reply is not None
            publish = partial(self._publish_reply, task.slide, task.reply)
            outcome = publish_or_fail(task.slide, self._context.models.provenance.classes, publish)
        for _ in range(task.slide.n_fields):
            self._context.field_done()
        return outcome

    def _publish_reply(self, slide: Slide, reply: SlideCompleted) -> SlideOutcome:
        """Log what the worker has logged, and publish the files of a slide."""
        self.hosts[slide.id] = reply.host
        for model, size in reply.batch_sizes.items():
            self.batch_sizes[model] = min(size, self.batch_sizes.get(model, size))
        log_again(reply.log_records)
        outcome = reply.outcome
        if reply.files is not None:
            hash_cache, timer = self._context.make_hash_cache(), StageTimer()
            hash_cache.load_slide(slide.id)
            with timer(Stage.WRITE):
                record = publish_with_reviews(self._context.output, reply.files)
            outcome = replace(SlideOutcome.from_record(record), seconds=outcome.seconds)
            for name, file_stat, sha256 in reply.field_hashes:
                hash_cache.remember(name, file_stat, sha256)
            hash_cache.flush()
            add_seconds(outcome.seconds, timer.seconds)
        return outcome

    def _count_failure(self, task: _Task, failure: str) -> None:
        """Count an attempt that failed, perhaps because of the slide; after the last one the slide has failed."""
        log.warning("slide %r: %s", task.slide.id, failure)
        task.failures.append(failure)
        if len(task.failures) >= self._limits.max_attempts:
            self._fail(task, Stage.CLUSTER, f"given up after {len(task.failures)} attempts: {'; '.join(task.failures)}")

    def _fail(self, task: _Task, stage: Stage, cause: str) -> None:
        """Let a slide have failed for good."""
        log.error("slide %r, %s: %s", task.slide.id, stage, cause)
        task.withdraw()
        task.outcome = make_failed_outcome(task.slide, stage, cause, self._context.models.provenance.classes)

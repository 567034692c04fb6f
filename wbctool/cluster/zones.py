"""The zones of one scan on all workers of a run.

The worker that has the scan surveys it and adds up its zones in their order. It has them processed, a few at a time, by
Dask tasks, which any worker takes that is free, this one too.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from distributed import Client, Future, Worker

from wbctool.cluster.log_records import log_again
from wbctool.cluster.messages import FieldNotVisible, WorkerReport, ZonesCompleted
from wbctool.pipeline.cell_worker import ClassifiedField
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_worker import FieldAnalysis
from wbctool.pipeline.pipeline import SlideField

Zones = tuple[SlideField, ...]

ZONES_PER_THREAD = 2
"""Zones of a task per thread of its worker: a task ends soon, and keeps the threads and a GPU's batches filled."""
TASKS_PER_WORKER = 3
"""Tasks per worker on their way: processed, waiting to be, or waiting for an earlier one."""
_POLL_S = 0.05
_FETCH_TIMEOUT_S = 10.0


@dataclass(slots=True)
class ZoneTasks:
    """The Dask tasks for the zones of one scan.

    Attributes:
        run: The run's name on the cluster.
        worker: The worker that has the scan.
        client: Connected to the scheduler.
        func: The function of a task; it takes the run's name, the address of ``worker`` and the zones.
        resources: The Dask resources that a task takes; only workers that give the same results have them.
        n_zones: The zones of one task.
        batch_sizes: The cells per batch of each model, the fewest of any worker.
    """

    run: str
    worker: Worker
    client: Client
    func: Callable[[str, str, Zones], ZonesCompleted | FieldNotVisible]
    resources: dict[str, float]
    n_zones: int
    batch_sizes: dict[str, int] = field(default_factory=dict)
    _blind: set[str] = field(default_factory=set)

    def process(
        self, context: RunContext, zones: Iterable[SlideField]
    ) -> Iterator[tuple[FieldAnalysis, ClassifiedField]]:
        """Have zones processed, as ``process_fields`` does in threads.

        Args:
            context: The run on this worker.
            zones: The zones, taken a few at a time.

        Yields:
            Each zone with its cells, in order, until the run is stopped. Closing the iterator withdraws the tasks.

        Raises:
            Exception: What keeps a task from ending: it has killed several workers, for one.
        """
        source, pending = iter(zones), deque[tuple[Zones, Future[Any]]]()
        try:
            while (some := tuple(itertools.islice(source, self.n_zones))) or pending:
                if some:
                    pending.append((some, self._submit(some)))
                n_allowed = TASKS_PER_WORKER * len(self.client.nthreads()) if some else 0
                while pending and (len(pending) > n_allowed or pending[0][1].done()):
                    if context.should_stop():
                        return
                    first, future = pending[0]
                    reply = self._fetch(future)
                    if isinstance(reply, ZonesCompleted):
                        pending.popleft()
                        yield from self._collect(reply)
                    elif reply is not None:
                        self._exclude(reply)
                        pending[0] = first, self._submit(first)
        finally:
            for _, future in pending:
                future.release()

    def _submit(self, zones: Zones) -> Future[Any]:
        """Submit a task to any worker that can see the scan."""
        workers = [address for address in self.client.nthreads() if address not in self._blind] if self._blind else None
        address = str(self.worker.contact_address)
        return self.client.submit(
            self.func, self.run, address, zones, workers=workers, resources=self.resources, pure=False
        )

    def _fetch(self, future: Future[Any]) -> ZonesCompleted | FieldNotVisible | None:
        """Return what a task made of its zones; None if it is not there yet."""
        if not future.done():
            time.sleep(_POLL_S)
            return None
        try:
            reply: ZonesCompleted | FieldNotVisible = future.result(timeout=_FETCH_TIMEOUT_S)
        except TimeoutError:  # its worker may just have died; then Dask has the zones processed again
            return None
        return reply

    def _collect(self, reply: ZonesCompleted) -> tuple[tuple[FieldAnalysis, ClassifiedField], ...]:
        """Take in what a worker tells of some zones, and return them."""
        log_again(reply.log_records)
        for model, size in reply.batch_sizes.items():
            self.batch_sizes[model] = min(size, self.batch_sizes.get(model, size))
        return reply.fields

    def _exclude(self, reply: FieldNotVisible) -> None:
        """Give a worker that cannot see the scan no more zones; the coordinator is told unless the scan has gone."""
        self._blind.add(reply.address)
        if reply.path.is_file():
            report = WorkerReport(reply.address, "", f"it cannot see {reply.path}")
            self.worker.log_event(self.run, {"report": asdict(report)})

"""A run on a Dask cluster: the workers process the slides, and this process, the coordinator, publishes them.

Only the coordinator writes. A worker that was thought dead may go on, and could write over what another has made of
the same slide.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import Any

from distributed import Client
from distributed.comm.addressing import get_address_host_port

import wbctool
from wbctool.cluster.task_queue import ClusterLimits, TaskQueue
from wbctool.cluster.worker_plugin import version_mismatch
from wbctool.cluster.workers import VERSION_CALL, WorkerPool
from wbctool.errors import ClusterUnusable
from wbctool.inference.loading import select_cards
from wbctool.inference.model_card import default_models_dir
from wbctool.inference.session import CPU, CUDA
from wbctool.pipeline.bound_stages import ModelsInUse, build_cache_key, build_provenance
from wbctool.pipeline.context import RunContext, ShouldStop
from wbctool.settings import RunSettings
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.text import pluralize
from wbctool.types.cells import Slide

log = logging.getLogger(__name__)

_POLL_S = 0.05
_CLOSE_TIMEOUT_S = 2.0


class DaskExecutor:
    """Processes slides on the workers of a Dask scheduler, as a SlideExecutor: load once, and close.

    Args:
        settings: The settings of the run.
        address: The scheduler's address, such as ``tcp://HEAD:8786``.
        should_stop: Returns whether the run is to end.
        limits: How long and how often to try; None for the usual limits.
    """

    def __init__(
        self, settings: RunSettings, address: str, should_stop: ShouldStop, limits: ClusterLimits | None = None
    ) -> None:
        self._settings, self._address, self._should_stop = settings, address, should_stop
        self._limits = limits or ClusterLimits()
        self._client: Client | None = None
        self._pool: WorkerPool | None = None
        self._queue: TaskQueue | None = None

    def load(self) -> ModelsInUse:
        """Connect to the scheduler, and load the models on its workers; see ``SlideExecutor``."""
        settings, folder = self._settings, self._settings.models_dir or default_models_dir()
        cards = cache(lambda provider: select_cards(folder, provider, settings.precision, settings.readers))
        client = self._client = connect_client(self._address, self._limits.connect_s)
        pool = self._pool = WorkerPool(client, lambda provider: build_cache_key(cards(provider), settings))
        pool.set_up(_with_absolute_paths(settings))
        provider, device_message = self._choose_provider(pool)
        return ModelsInUse(
            provenance=build_provenance(cards(provider), provider, settings),
            cache_key=build_cache_key(cards(provider), settings),
            device_message=device_message,
            batch_sizes=lambda: self._queue.batch_sizes if self._queue else {},
        )

    def process_slides(self, context: RunContext, slides: Iterable[Slide]) -> Generator[SlideOutcome, None, None]:
        """Process and publish slides; see ``SlideExecutor``."""
        assert self._client is not None
        assert self._pool is not None
        self._queue = TaskQueue(self._client, self._pool, context, self._limits)
        return self._queue.process_slides(slides)

    def describe_cluster(self) -> Mapping[str, Any] | None:
        """Return what run.json says of the workers, and of which machine processed which slide."""
        if self._pool is None:
            return None
        return {
            "workers": self._pool.n_joined,
            "workers_lost": self._pool.n_lost,
            "workers_refused": dict(self._pool.rejected),
            "hosts": dict(self._queue.hosts) if self._queue else {},
        }

    def close(self) -> None:
        """Leave the cluster; one that hangs does not hold up the end of the run."""
        if self._client is not None:
            leaving = Thread(target=self._disconnect, args=(self._client,), daemon=True)
            leaving.start()
            leaving.join(2 * _CLOSE_TIMEOUT_S)

    def _disconnect(self, client: Client) -> None:
        """End the run on the workers and close the connection, as far as that is possible."""
        with suppress(Exception):
            if self._pool is not None:
                self._pool.tear_down()
        with suppress(Exception):
            client.close(timeout=_CLOSE_TIMEOUT_S)

    def _choose_provider(self, pool: WorkerPool) -> tuple[str, str | None]:
        """Choose CUDA if any worker has it, else the CPU: they differ in the last digits, so a run has one provider.

        Args:
            pool: The workers.

        Returns:
            The provider, and why ``--device auto`` does not use the GPUs that there are; None if there is no reason.

        Raises:
            ClusterUnusable: No worker can process slides.
        """
        self._wait_for_workers(pool)
        reports = list(pool.available.values())
        provider = CUDA if any(report.provider == CUDA for report in reports) else CPU
        pool.set_provider(provider)
        if not pool.available and not self._should_stop():
            raise ClusterUnusable(_no_worker_message(pool, self._limits.no_worker_s))
        messages = {f"{report.host}: {report.device_message}" for report in reports if report.device_message}
        if provider == CUDA or not messages:
            return provider, None
        log.warning("%s", message := "; ".join(sorted(messages)))
        return provider, message

    def _wait_for_workers(self, pool: WorkerPool) -> None:
        """Wait, for a limited time, until there is a worker and all have reported."""
        deadline, announced = time.monotonic() + self._limits.no_worker_s, False
        pool.poll()
        while pool.pending or not (pool.available or pool.rejected):
            if self._should_stop() or time.monotonic() > deadline:
                return
            if not announced and not pool.pending:
                log.warning("the Dask scheduler has no workers yet; waiting for one")
                announced = True
            time.sleep(_POLL_S)
            pool.poll()


def _no_worker_message(pool: WorkerPool, waited_s: float) -> str:
    """Return why no worker can process slides."""
    if pool.rejected:
        return "no worker can process slides: " + "; ".join(f"{name}: {why}" for name, why in pool.rejected.items())
    if pool.pending:
        return f"no answer from {pluralize(len(pool.pending), 'worker')} within {waited_s:.0f} seconds"
    return f"the Dask scheduler has had no workers for {waited_s:.0f} seconds"


def connect_client(address: str, timeout_s: float) -> Client:
    """Connect to a scheduler that has this wbctool.

    Args:
        address: The scheduler's address.
        timeout_s: How long to try.

    Returns:
        The connection.

    Raises:
        ClusterUnusable: There is none at that address, or it has another version.
    """
    for name in ("distributed", "distributed.client"):  # Dask configures logging itself; what matters is logged here
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
    try:
        check_address(address)
        client = Client(address, timeout=timeout_s, set_as_default=False, name="wbctool")
        version = client.run_on_scheduler(*VERSION_CALL)  # it unpickles every task, which takes the same wbctool
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ClusterUnusable(f"the Dask scheduler at {address} cannot be reached: {cause}") from error
    mismatch = version_mismatch(version, wbctool.__version__)
    if mismatch:
        client.close(timeout=_CLOSE_TIMEOUT_S)
        raise ClusterUnusable(f"the scheduler at {address} {mismatch}")
    return client


def check_address(address: str) -> None:
    """Check an address before a Client half exists, which would complain in a late traceback.

    Args:
        address: The scheduler's address.

    Raises:
        ValueError: It is no address.
    """
    if address.startswith("ucx://"):  # Dask cannot parse host and port from valid ucx:// addresses
        return
    try:
        get_address_host_port(address)
    except ValueError as error:
        raise ValueError(f"{error}; give an address such as tcp://HEAD:8786") from error


def _with_absolute_paths(settings: RunSettings) -> RunSettings:
    """Return settings whose paths mean the same wherever a worker was started."""
    models_dir = settings.models_dir and settings.models_dir.absolute()
    return settings.model_copy(update={"slides": settings.slides.absolute(), "models_dir": models_dir})

"""The workers of a cluster that may process a run's slides."""

from __future__ import annotations

import json
import logging
import pydoc
from collections import deque
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any

from distributed import Client

import wbctool
from wbctool.cluster.messages import WorkerReport
from wbctool.cluster.worker_plugin import RunPlugin, version_mismatch
from wbctool.errors import ClusterUnusable
from wbctool.settings import RunSettings

log = logging.getLogger(__name__)

VERSION_CALL = (pydoc.locate, "wbctool.__version__")
"""A call that any Python process can run; it gives the process's version of wbctool, or None."""


class WorkerPool:
    """The workers, as their reports and the scheduler's events tell.

    Args:
        client: Connected to the scheduler.
        expected_cache_key: Returns what the results depend on by the coordinator's own models, for a provider.

    Attributes:
        run: The run's name on the cluster.
        available: The reports of the workers that may get slides, by address.
        pending: The addresses of the workers that have not reported yet.
        rejected: Why a worker gets no slides, by its address and machine.
        n_joined: The number of workers that were available at some time.
        n_lost: The number of those that have left.
    """

    def __init__(self, client: Client, expected_cache_key: Callable[[str], Mapping[str, Any]]) -> None:
        self._client, self._expected_cache_key = client, expected_cache_key
        self.run = f"run-{client.id}"
        self._provider: str | None = None
        self._events = deque[WorkerReport | dict[str, Any]]()  # filled by other threads
        self.available: dict[str, WorkerReport] = {}
        self.pending: set[str] = set()
        self.rejected: dict[str, str] = {}
        self.n_joined = self.n_lost = 0

    def set_up(self, settings: RunSettings) -> None:
        """Begin to set up the run on all workers and on those that join, in a thread, as Dask waits for the slowest.

        Args:
            settings: The settings, whose paths mean the same on every machine.
        """
        self._client.subscribe_topic(self.run, lambda event: self._events.append(WorkerReport(**event[1]["report"])))
        self._client.subscribe_topic("all", lambda event: self._events.append(event[1]))
        self.pending = set(self._client.nthreads())
        Thread(target=self._register, args=(RunPlugin(self.run, settings),), daemon=True).start()

    def tear_down(self) -> None:
        """End the run on the workers: a slide at hand stops after its current field."""
        if self._client.status == "running":
            self._client.unregister_worker_plugin(self.run)

    def poll(self) -> dict[str, str]:
        """Take in what has happened.

        Returns:
            The worker, in words, that died while processing a Dask task, by the task's key.

        Raises:
            ClusterUnusable: The scheduler has gone.
        """
        if self._client.status != "running":
            raise ClusterUnusable("the connection to the Dask scheduler was lost")
        died: dict[str, str] = {}
        while self._events:
            event = self._events.popleft()
            if isinstance(event, WorkerReport):
                self._add(event)
            elif isinstance(event, dict) and event.get("action") == "remove-worker":  # anyone may log to this topic
                worker = self._remove(event["worker"])
                died |= {key: worker for key in event["processing-tasks"] if not event["expected"]}
        return died

    def set_provider(self, provider: str) -> None:
        """Reject workers with another provider, now and later: results must not depend on which worker was free.

        Args:
            provider: The provider of the run.
        """
        self._provider = provider
        for report in list(self.available.values()):
            self._add(report)

    def reject(self, address: str, cause: str) -> None:
        """Give a worker no more slides.

        Args:
            address: The worker's address.
            cause: Why.
        """
        report = self.available.pop(address, None)
        name = f"{address} on {report.host}" if report and report.host else address
        self.rejected[name] = cause
        log.error("worker %s is refused: %s", name, cause)

    def _register(self, plugin: RunPlugin) -> None:
        """Register the plugin with Dask, after the workers that could not unpickle it were found."""
        try:
            for address, version in self._client.run(*VERSION_CALL, on_error="return").items():
                if version is None:  # it cannot unpickle the plugin, which else reports that
                    mismatch = version_mismatch(version, wbctool.__version__)
                    self._events.append(WorkerReport(address, "", f"it {mismatch}"))
            self._client.register_plugin(plugin)
        except Exception as error:  # of one worker, which Dask does not name; the others report
            log.warning("not every worker could be set up: %r", error)

    def _add(self, report: WorkerReport) -> None:
        """Take in a worker's report: it may get slides, or is rejected."""
        self.pending.discard(report.address)
        self.available[report.address] = report
        cause = report.error or (self._incompatibility(report, self._provider) if self._provider else "")
        if cause:
            self.reject(report.address, cause)
        elif self._provider:
            self.n_joined += 1

    def _remove(self, address: str) -> str:
        """Take in that a worker has left, and return it in words."""
        self.pending.discard(address)
        report = self.available.pop(address, None)
        name = f"worker {address} on {report.host}" if report else f"worker {address}"
        if report and self._provider:  # before, it had not joined
            self.n_lost += 1
            log.warning("%s is lost", name)
        return name

    def _incompatibility(self, report: WorkerReport, provider: str) -> str:
        """Return why a worker's results would differ from those of the others; empty if they would not."""
        if report.provider != provider:
            return f"it runs on {report.provider}, but this run uses {provider}"
        ours = json.loads(json.dumps(self._expected_cache_key(provider)))
        theirs = json.loads(report.cache_key)
        for our_card, their_card in zip(ours["cards"], theirs["cards"], strict=True):
            file, sha256 = their_card["file"], their_card["sha256"]
            if (our_card["file"], our_card["sha256"]) != (file, sha256):
                return f"its {file} has SHA-256 {sha256}, {our_card['file']} here {our_card['sha256']}"
            if our_card != their_card:
                return f"its card of {file} differs from the one here"
        return "" if ours == theirs else "its wbctool gives different results for the same models and settings"

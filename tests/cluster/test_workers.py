"""Setting up a run on workers: what they report, and which of them the coordinator accepts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from tiny_models import write_tiny_models

pytest.importorskip("distributed")

from distributed import Reschedule

import wbctool
from wbctool.cluster import worker_plugin
from wbctool.cluster.messages import WorkerReport
from wbctool.cluster.worker_plugin import SLIDE_RESOURCE, RunPlugin, cached_models
from wbctool.cluster.workers import WorkerPool
from wbctool.enums import Device, Precision, Readers
from wbctool.errors import ClusterUnusable
from wbctool.inference.loading import select_cards
from wbctool.inference.session import CPU, CUDA
from wbctool.pipeline.bound_stages import build_cache_key
from wbctool.settings import RunSettings, load_settings
from wbctool.types.cells import Slide


@pytest.fixture
def settings(tmp_path: Path, models: Path) -> RunSettings:
    (tmp_path / "slides").mkdir()
    out = tmp_path / "counts.csv"
    return load_settings({"slides": tmp_path / "slides", "out": out, "models_dir": models, "device": Device.CPU})


class FakeWorker:
    """Keeps what a plugin tells Dask."""

    contact_address = "tcp://w:1"

    def __init__(self) -> None:
        self.resources: dict[str, float] = {}
        self.events: list[tuple[str, WorkerReport]] = []

    async def set_resources(self, **resources: float) -> None:
        self.resources.update(resources)

    def log_event(self, topic: str, message: dict) -> None:
        self.events.append((topic, WorkerReport(**json.loads(json.dumps(message))["report"])))

    def set_up(self, plugin: RunPlugin) -> WorkerReport:
        asyncio.run(plugin.setup(self))
        ((topic, report),) = self.events
        assert topic == plugin.name
        return report


def test_worker_reports_what_its_results_depend_on(settings: RunSettings, models: Path) -> None:
    worker = FakeWorker()
    plugin = RunPlugin("run", settings)
    report = worker.set_up(plugin)
    assert (report.address, report.error, report.provider) == ("tcp://w:1", "", CPU)
    expected = build_cache_key(select_cards(models, CPU, Precision.AUTO), settings)
    assert json.loads(report.cache_key) == json.loads(json.dumps(expected))
    assert worker.resources == {SLIDE_RESOURCE: 1, plugin.zone_resource: 1}


def test_worker_of_another_version_reports_it_and_unpickles_nothing(
    settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = wbctool.__version__
    plugin = RunPlugin("run", settings)
    monkeypatch.setattr("wbctool.__version__", "0.0.9")
    monkeypatch.setattr("pickle.loads", None)
    worker = FakeWorker()
    assert worker.set_up(plugin).error == f"it has wbctool 0.0.9, but this run uses wbctool {ours}"
    assert worker.resources == {}


def test_worker_without_the_slides_reports_it(settings: RunSettings) -> None:
    settings.slides.rmdir()
    assert "cannot be seen from this machine" in FakeWorker().set_up(RunPlugin("run", settings)).error


def test_worker_takes_a_single_image_or_scan(settings: RunSettings) -> None:
    settings.slides.rmdir()
    settings.slides.write_bytes(b"")
    assert not FakeWorker().set_up(RunPlugin("run", settings)).error


def test_worker_that_is_not_ready_or_has_ended_gives_the_slide_back(settings: RunSettings) -> None:
    plugin, slide = RunPlugin("run", settings), Slide("a", settings.slides, (settings.slides / "gone.png",))
    with pytest.raises(Reschedule):
        plugin.process_slide(slide, None, 1)
    worker = FakeWorker()
    worker.set_up(plugin)
    assert plugin.process_slide(slide, None, 1).outcome.slide == "a"
    plugin.teardown(worker)
    with pytest.raises(Reschedule):
        plugin.process_slide(slide, None, 1)


def test_models_are_loaded_once_per_process(models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded = []
    monkeypatch.setattr(worker_plugin, "load_models", lambda *how, **_: loaded.append(how) or object())
    folder = write_tiny_models(tmp_path / "models")
    first = cached_models(folder, Device.CPU, Precision.AUTO, Readers.BOTH)
    assert cached_models(folder, Device.CPU, Precision.AUTO, Readers.BOTH) is first
    assert cached_models(folder, Device.CPU, Precision.FP32, Readers.BOTH) is not first
    assert len(loaded) == 2


class FakeClient:
    """A client of workers that Dask knows by address; versions: of wbctool."""

    def __init__(self, **versions: str | None) -> None:
        self.id, self.status, self.versions = "id", "running", versions
        self.handlers: dict[str, Callable[[tuple[float, dict]], None]] = {}
        self.registered = Event()

    def subscribe_topic(self, topic: str, handler: Callable[[tuple[float, dict]], None]) -> None:
        self.handlers[topic] = handler

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.versions, 1)

    def run(self, *_: object, on_error: str) -> dict[str, str | None]:
        return self.versions

    def register_plugin(self, plugin: RunPlugin) -> None:
        self.registered.set()
        if None in self.versions.values():
            raise ModuleNotFoundError("No module named 'wbctool'")

    def report(self, pool: WorkerPool, report: WorkerReport) -> None:
        self.handlers[pool.run]((0.0, {"report": {name: getattr(report, name) for name in report.__slots__}}))

    def remove(self, address: str, *keys: str, expected: bool = False) -> None:
        event = {"action": "remove-worker", "worker": address, "processing-tasks": set(keys), "expected": expected}
        self.handlers["all"]((0.0, event))


CACHE_KEY = {"cards": [{"file": "c.onnx", "sha256": "aa", "threshold": 0.5}], "settings": {"low": (1, 2)}}
FIT = WorkerReport("w", "host", provider=CPU, cache_key=json.dumps(CACHE_KEY))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(w=wbctool.__version__)


@pytest.fixture
def pool(client: FakeClient, settings: RunSettings) -> WorkerPool:
    pool = WorkerPool(client, lambda _: CACHE_KEY)
    pool.set_up(settings)
    assert client.registered.wait(10)
    return pool


def test_worker_that_fits_is_available(client: FakeClient, pool: WorkerPool) -> None:
    assert pool.pending == {"w"}
    client.report(pool, FIT)
    pool.poll()
    assert (pool.pending, pool.available) == (set(), {"w": FIT})
    pool.set_provider(CPU)
    client.report(pool, replace(FIT, address="v"))
    pool.poll()
    assert (set(pool.available), pool.n_joined, pool.rejected) == ({"w", "v"}, 2, {})


@pytest.mark.parametrize(
    ("report", "cause"),
    [
        (replace(FIT, error="it has no models"), "it has no models"),
        (replace(FIT, provider=CUDA), f"it runs on {CUDA}, but this run uses {CPU}"),
        (
            replace(FIT, cache_key=FIT.cache_key.replace("aa", "bb")),
            "its c.onnx has SHA-256 bb, c.onnx here aa",
        ),
        (replace(FIT, cache_key=FIT.cache_key.replace("0.5", "0.6")), "its card of c.onnx differs from the one here"),
        (
            replace(FIT, cache_key=FIT.cache_key.replace("low", "high")),
            "its wbctool gives different results for the same models and settings",
        ),
    ],
)
def test_worker_that_differs_is_rejected_by_name(
    client: FakeClient, pool: WorkerPool, report: WorkerReport, cause: str
) -> None:
    client.report(pool, report)
    pool.poll()
    pool.set_provider(CPU)
    assert (pool.rejected, pool.available, pool.n_joined) == ({"w on host": cause}, {}, 0)


def test_worker_without_wbctool_is_rejected_and_the_others_are_set_up(settings: RunSettings) -> None:
    client = FakeClient(w=wbctool.__version__, bare=None)
    pool = WorkerPool(client, lambda _: CACHE_KEY)
    pool.set_up(settings)
    assert client.registered.wait(10)
    pool.poll()
    assert (pool.pending, set(pool.rejected)) == ({"w"}, {"bare"})
    assert pool.rejected["bare"].startswith("it has no wbctool, but this run uses wbctool ")


def test_death_of_worker_is_told_with_its_tasks(client: FakeClient, pool: WorkerPool) -> None:
    pool.set_provider(CPU)
    client.report(pool, FIT)
    client.remove("w", "task-1", "task-2")
    assert pool.poll() == dict.fromkeys(["task-1", "task-2"], "worker w on host")
    assert (pool.available, pool.n_lost) == ({}, 1)


def test_worker_that_was_asked_to_leave_is_no_death(client: FakeClient, pool: WorkerPool) -> None:
    pool.set_provider(CPU)
    client.report(pool, FIT)
    client.remove("w", "task-1", expected=True)
    assert pool.poll() == {}
    assert (pool.available, pool.n_lost) == ({}, 1)


def test_worker_that_leaves_before_it_has_joined_is_not_lost(client: FakeClient, pool: WorkerPool) -> None:
    client.report(pool, FIT)
    client.remove("w")
    pool.poll()
    assert (pool.available, pool.n_joined, pool.n_lost) == ({}, 0, 0)


def test_event_of_somebody_else_is_passed_over(client: FakeClient, pool: WorkerPool) -> None:
    client.handlers["all"]((0.0, "a word"))
    assert pool.poll() == {}


def test_worker_that_dies_while_it_sets_up_is_not_waited_for(client: FakeClient, pool: WorkerPool) -> None:
    client.remove("w")
    pool.poll()
    assert (pool.pending, pool.n_lost) == (set(), 0)


def test_worker_that_was_restarted_at_its_address_is_available_again(client: FakeClient, pool: WorkerPool) -> None:
    pool.set_provider(CPU)
    for _ in range(2):
        client.report(pool, FIT)
        client.remove("w")
    client.report(pool, FIT)
    pool.poll()
    assert (set(pool.available), pool.n_joined, pool.n_lost) == ({"w"}, 3, 2)


def test_lost_scheduler_is_an_error(client: FakeClient, pool: WorkerPool) -> None:
    client.status = "connecting"
    with pytest.raises(ClusterUnusable, match="the connection to the Dask scheduler was lost"):
        pool.poll()

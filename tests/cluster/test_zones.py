"""Scans whose zones are processed by all workers: on a real Dask cluster, and with Dask's side played by fakes."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import fakes
import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("openslide")

import dask_faults
from dask_lab import Dask, Lab, after
from synthetic_scans import UM_PER_PX, damage, draw_smear, write_scan

from wbctool.cluster.messages import FieldNotVisible, WorkerReport, ZonesCompleted
from wbctool.cluster.task_queue import ClusterLimits
from wbctool.cluster.zones import TASKS_PER_WORKER, ZoneTasks
from wbctool.errors import WbctoolError
from wbctool.pipeline import bound_stages
from wbctool.pipeline.context import RunContext
from wbctool.settings import load_settings


@pytest.fixture(scope="module")
def smear() -> np.ndarray:
    return draw_smear()[0][:900]


@pytest.fixture
def scan_lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(bound_stages, "bind_stages", dask_faults.see_drawn_smears(bound_stages.bind_stages))
    return lab


def write(lab: Lab, smear: np.ndarray, name: str) -> Path:
    return write_scan(lab.slides / f"{name}.svs", smear, UM_PER_PX, "adobe_deflate", aperio=True)


def zones_by_process(lab: Lab) -> dict[str, list[str]]:
    return {file.name: file.read_text().split() for file in lab.slides.glob(".zones-*")}


@pytest.mark.parametrize("cells", ["all", 40])
def test_scans_on_cluster_give_same_bytes_as_on_one_machine(
    scan_lab: Lab, dask: Dask, smear: np.ndarray, cells: object, caplog: pytest.LogCaptureFixture
) -> None:
    damage(write(scan_lab, smear, "damaged"))
    write(scan_lab, smear[:, ::-1], "whole")
    scan_lab.draw("a", "z")
    caplog.set_level("INFO", "wbctool")
    assert scan_lab.run("one", cells_per_scan=cells) == 3
    logged = sorted(record.getMessage() for record in caplog.records if "scan " in record.getMessage())
    caplog.clear()
    assert scan_lab.run("many", scheduler=dask.address, cells_per_scan=cells) == 3
    assert scan_lab.tree("many") == scan_lab.tree("one")
    assert len(scan_lab.tree("one")["counts/whole/cells.csv"].splitlines()) > 40
    assert any("damaged here" in message for message in logged)
    assert logged == sorted(record.getMessage() for record in caplog.records if "scan " in record.getMessage())
    zones = zones_by_process(scan_lab)
    assert len(zones) == 2  # of four workers two were refused
    looked_at = [zone for names in zones.values() for zone in names]
    assert len(looked_at) == len(set(looked_at))
    assert scan_lab.facts("many")["batch_sizes"] == scan_lab.facts("one")["batch_sizes"]


@pytest.mark.parametrize("name", ["fatal-helper", "fatal-any"])
def test_worker_that_dies_with_zones_changes_nothing(scan_lab: Lab, dask: Dask, smear: np.ndarray, name: str) -> None:
    dask.wait_for_workers(4)
    write(scan_lab, smear, name)
    assert scan_lab.run("one") == 0
    assert scan_lab.run("many", scheduler=dask.address) == 0
    assert (scan_lab.slides / ".died").exists()
    assert scan_lab.facts("many")["cluster"]["workers_lost"] == 1
    assert scan_lab.tree("many") == scan_lab.tree("one")


def test_scan_whose_zones_kill_workers_fails_alone(scan_lab: Lab, dask: Dask, smear: np.ndarray) -> None:
    dask.wait_for_workers(4)
    write(scan_lab, smear, "deadly")
    scan_lab.draw("a", "z")
    assert scan_lab.run_with("many", dask.address, ClusterLimits(max_attempts=2)) == 3
    slides = {slide["slide"]: slide for slide in scan_lab.facts("many")["slides"]}
    assert {name: slide["status"] for name, slide in slides.items()} == {"a": "ok", "deadly": "failed", "z": "ok"}
    assert slides["deadly"]["errors"][0]["stage"] == "cluster"


def test_stop_ends_scan_soon_and_frees_the_workers(scan_lab: Lab, dask: Dask, smear: np.ndarray) -> None:
    dask.wait_for_workers(4)
    write(scan_lab, smear, "slow")
    stopped_at = []

    def stop() -> None:
        stopped_at.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    after(lambda: bool(zones_by_process(scan_lab)), stop)
    assert scan_lab.run("many", scheduler=dask.address, cells_per_scan="all") == 143
    assert time.monotonic() - stopped_at[0] < 5
    assert scan_lab.published("many") == set()
    scan_lab.draw("a")
    assert scan_lab.run("many", scheduler=dask.address, cells_per_scan="all") == 0
    assert scan_lab.run("one", cells_per_scan="all") == 0
    assert scan_lab.tree("many") == scan_lab.tree("one")


class FakeDask:
    """A client, the worker with the scan, and the futures. reply: what becomes of the n-th task."""

    contact_address = "home"

    def __init__(self, reply: Callable[[int, tuple], object]) -> None:
        self.reply, self.submitted, self.released = reply, list[list[str] | None](), 0
        self.events: list[WorkerReport] = []

    def nthreads(self) -> dict[str, int]:
        return {"home": 1, "blind": 1}

    def submit(self, func, run, address, zones, *, workers, resources, pure) -> FakeFuture:
        assert (func, run, address, resources, pure) == ("func", "run", "home", {"zone": 1}, False)
        self.submitted.append(workers)
        return FakeFuture(self, self.reply(len(self.submitted), zones))

    def log_event(self, topic: str, message: dict) -> None:
        assert topic == "run"
        self.events.append(WorkerReport(**message["report"]))


class FakeFuture:
    """reply: None as long as the task is not done."""

    def __init__(self, dask: FakeDask, reply: object) -> None:
        self.dask, self.reply = dask, reply

    def done(self) -> bool:
        return self.reply is not None

    def result(self, timeout: float) -> object:
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def release(self) -> None:
        self.dask.released += 1


def completed(_: int, zones: tuple) -> ZonesCompleted:
    record = {"name": "wbctool.test", "levelno": logging.INFO, "msg": f"zones {zones}"}
    return ZonesCompleted(zones, (record,), {"classifier.onnx": zones[0]})


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., Iterator[int]]:
    """Takes numbers in place of zones through tasks of two."""

    def process(tasks: ZoneTasks, zones: Iterator[int], checks: int = 1000) -> Iterator[int]:
        settings, turns = load_settings({"slides": tmp_path, "out": tmp_path / "counts.csv"}), count()
        context = RunContext(settings, fakes.fake_stages(settings).models, should_stop=lambda: next(turns) >= checks)
        return tasks.process(context, zones)

    return process


def make_tasks(dask: FakeDask) -> ZoneTasks:
    return ZoneTasks("run", dask, dask, "func", {"zone": 1}, 2)


def test_zones_are_in_order_and_logged(process, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "wbctool")
    tasks = make_tasks(FakeDask(completed))
    assert list(process(tasks, iter(range(5, 10)))) == [5, 6, 7, 8, 9]
    assert [record.getMessage() for record in caplog.records] == ["zones (5, 6)", "zones (7, 8)", "zones (9,)"]
    assert tasks.batch_sizes == {"classifier.onnx": 5}


def test_few_zones_are_on_their_way_and_a_stop_withdraws_them(process) -> None:
    dask, zones = FakeDask(lambda *_: None), iter(range(1000))
    assert list(process(make_tasks(dask), zones, checks=3)) == []
    assert dask.released == len(dask.submitted) == 2 * TASKS_PER_WORKER + 1
    assert next(zones) == 2 * len(dask.submitted)


def test_closed_iterator_withdraws_tasks(process) -> None:
    dask = FakeDask(lambda number, zones: completed(number, zones) if number == 1 else None)
    zones = process(make_tasks(dask), iter(range(100)))
    assert next(zones) == 0
    zones.close()
    assert dask.released == len(dask.submitted) - 1


@pytest.mark.parametrize("is_there", [True, False])
def test_worker_that_cannot_see_the_scan_gets_no_more_zones(process, tmp_path: Path, is_there: bool) -> None:
    path = tmp_path / "a.svs"
    if is_there:
        path.touch()
    dask = FakeDask(lambda number, zones: FieldNotVisible("blind", path) if number == 1 else completed(number, zones))
    assert list(process(make_tasks(dask), iter(range(4)))) == [0, 1, 2, 3]
    assert dask.submitted == [None, ["home"], ["home"]]
    assert [(event.address, event.error) for event in dask.events] == [("blind", f"it cannot see {path}")] * is_there


def test_error_of_a_task_ends_the_scan(process) -> None:
    dask = FakeDask(lambda *_: WbctoolError("host: seen by a worker"))
    with pytest.raises(WbctoolError, match="seen by a worker"):
        list(process(make_tasks(dask), iter(range(4))))

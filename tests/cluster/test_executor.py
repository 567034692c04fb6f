"""Runs on real Dask clusters."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("distributed")

import distributed
from dask_lab import ROOT, Dask, Lab, after

import wbctool
from wbctool.cluster.executor import check_address
from wbctool.cluster.task_queue import ClusterLimits
from wbctool.errors import ClusterUnusable, MissingDependency
from wbctool.inference.model_card import read_card


def test_run_on_cluster_publishes_same_bytes_as_on_one_machine(
    lab: Lab, dask: Dask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"s{number}" for number in range(10)]
    lab.draw(*names)
    (lab.slides / "s3" / "broken.jpg").write_text("no image")
    (lab.slides / "s4" / "f9.png").write_bytes((lab.slides / "s4" / "f0.png").read_bytes())
    (lab.slides / "slides.csv").write_text("slide,patient,age,analyser_wbc\ns5,P-1,54,7.2\n")
    monkeypatch.chdir(lab.folder)  # a relative path that the workers, which are elsewhere, could not follow
    caplog.set_level("INFO", "wbctool")
    assert lab.run("one") == 3
    logged = {record.getMessage() for record in caplog.records if "slide " in record.getMessage()}
    assert any("broken.jpg" in message for message in logged)
    caplog.clear()
    assert lab.run("many", slides=Path("slides"), scheduler=dask.address) == 3
    assert lab.tree("many") == lab.tree("one")
    assert logged <= {record.getMessage() for record in caplog.records}
    facts = lab.facts("many")
    assert facts["provider"] == "CPUExecutionProvider"
    assert (facts["cluster"]["workers"], facts["cluster"]["workers_lost"]) == (2, 0)
    assert list(facts["cluster"]["hosts"]) == names
    assert facts["batch_sizes"] == lab.facts("one")["batch_sizes"]
    assert "cluster" not in lab.facts("one")
    assert lab.run("many", scheduler=dask.address) == 3  # nothing is left to do, on a cluster
    assert not any(slide["done_in_run"] for slide in lab.facts("many")["slides"])
    assert lab.run("many") == 3  # nor here
    assert not any(slide["done_in_run"] for slide in lab.facts("many")["slides"])


def test_workers_that_differ_are_refused_by_name(lab: Lab, dask: Dask) -> None:
    lab.draw("a", "b", "c")
    assert lab.run("many", scheduler=dask.address) == 0
    refused = lab.facts("many")["cluster"]["workers_refused"]
    assert all(name.startswith("tcp://127.0.0.1:") for name in refused)
    other_version, other_model = sorted(refused.values())
    assert other_version == f"it has wbctool 0.0.9, but this run uses wbctool {wbctool.__version__}"
    ours = read_card(lab.models / "classifier.json").sha256
    assert re.fullmatch(rf"its classifier.onnx has SHA-256 [0-9a-f]{{64}}, classifier.onnx here {ours}", other_model)
    assert ours not in other_model.partition(",")[0]


def test_killed_worker_costs_no_slide_and_deadly_slide_no_other(lab: Lab, dask: Dask) -> None:
    lab.draw("a", "fatal", "b", "slow", "deadly", "c", "odd")
    assert lab.run("one") == 0
    assert lab.run_with("many", dask.address, ClusterLimits(max_attempts=2)) == 3
    facts = lab.facts("many")
    assert facts["cluster"]["workers_lost"] >= 3
    assert facts["cluster"]["workers"] > 2  # those that were restarted have joined
    slides = {slide["slide"]: slide for slide in facts["slides"]}
    assert {name for name, slide in slides.items() if slide["status"] != "ok"} == {"deadly", "odd"}
    assert "RecursionError" in slides["odd"]["errors"][0]["cause"]
    (error,) = slides["deadly"]["errors"]
    assert error["stage"] == "cluster"
    assert "given up after 2 attempts" in error["cause"]
    assert socket.gethostname() in error["cause"]
    one, many = lab.tree("one"), lab.tree("many")
    overview = {"counts.csv", "counts/index.html"}
    assert {
        name for name in one if name not in overview and "deadly" not in name and "odd" not in name
    } == many.keys() - overview
    assert all(many[name] == one[name] for name in many.keys() - overview)
    for name in ("deadly", "odd"):  # what failed, the next run does
        (lab.slides / name).rename(lab.slides / ("x" + name[::-1]))
    assert lab.run("many", scheduler=dask.address) == 0


def test_signal_stops_run_and_keeps_what_is_published(lab: Lab, dask: Dask) -> None:
    lab.draw(*[f"slow-{number}" for number in range(8)])
    after(lab.slide_json("many", "slow-0").exists, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert lab.run("many", scheduler=dask.address) == 143
    facts = lab.facts("many")
    assert facts["stopped_by"] == "SIGTERM"
    assert 1 <= facts["counts"]["ok"] < 8
    assert lab.published("many") == {slide["slide"] for slide in facts["slides"] if slide["status"] == "ok"}
    assert lab.run("many", scheduler=dask.address) == 0
    assert lab.run("one") == 0
    assert lab.tree("many") == lab.tree("one")


def test_max_failures_stops_run(lab: Lab, dask: Dask) -> None:
    lab.draw("a", "b", "c", "d", "e")
    for name in "bcde":
        (lab.slides / name / "broken.png").write_text("no image")
    assert lab.run("many", scheduler=dask.address, max_failures=2) == 3
    assert lab.facts("many")["stopped_by"] == "max_failures"
    assert [slide["status"] for slide in lab.facts("many")["slides"]] == ["ok", "partial", "partial", *["waiting"] * 2]


def test_two_runs_share_the_workers(lab: Lab, dask: Dask) -> None:
    lab.draw(*[f"s{number}" for number in range(6)])
    limits, codes = ClusterLimits(), list[int]()
    other = threading.Thread(target=lambda: codes.append(lab.run_with("other", dask.address, limits)))
    other.start()
    assert lab.run_with("many", dask.address, limits) == 0
    other.join(60)
    assert codes == [0]
    assert lab.tree("many") == lab.tree("other")


def test_scheduler_that_is_not_there_is_reported_soon(lab: Lab) -> None:
    lab.draw("a")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        start = time.monotonic()
        with pytest.raises(ClusterUnusable, match=r"the Dask scheduler at .*127\.0\.0\.1:.* cannot be reached"):
            lab.run_with("many", f"127.0.0.1:{bound.getsockname()[1]}", ClusterLimits(connect_s=1))
    assert time.monotonic() - start < 5


def test_scheduler_without_workers_is_reported_after_a_while(lab: Lab) -> None:
    lab.draw("a")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0") as cluster,
        pytest.raises(ClusterUnusable, match=r"the Dask scheduler has had no workers for"),
    ):
        lab.run_with("many", cluster.scheduler_address, ClusterLimits(no_worker_s=0.2))


@pytest.mark.parametrize("address", ["x", "tcp://x", "x:abc", ":", "foo://x:1", "::1", "inproc://x"])
def test_invalid_address_makes_no_client(lab: Lab, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("wbctool.cluster.executor.Client", None)  # one that could not be made says so ten seconds later
    lab.draw("a")
    with pytest.raises(
        ClusterUnusable, match=r"the Dask scheduler at .* cannot be reached: .*; give an address such as tcp://"
    ):
        lab.run("many", scheduler=address)


@pytest.mark.parametrize("address", ["tcp://x:1", "x:1", "tls://[::1]:1", "ws://x:1", "ucx://x:1"])
def test_address_of_any_kind_is_valid(address: str) -> None:
    check_address(address)


def test_scheduler_of_another_version_is_refused(lab: Lab, dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.draw("a")
    monkeypatch.setattr("wbctool.__version__", "0.0.8")
    with pytest.raises(
        ClusterUnusable, match=r"the scheduler at tcp://.* has wbctool .*, but this run uses wbctool 0\.0\.8"
    ):
        lab.run("many", scheduler=dask.address)


def test_missing_extra_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.draw("a")
    for name in ("executor", "task_queue", "workers", "tasks", "worker_plugin", "zones"):
        monkeypatch.delitem(sys.modules, f"wbctool.cluster.{name}")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency, match=r"--scheduler needs distributed: pip install 'wbctool\[cluster\]'"):
        lab.run("many", scheduler="127.0.0.1:1")


def test_run_on_one_machine_does_not_import_dask() -> None:
    code = "import sys, wbctool.pipeline.run; sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0


def test_lost_scheduler_ends_run_and_what_is_complete_stays(lab: Lab, dask: Dask) -> None:
    """The last test here: it takes the cluster along."""
    lab.draw("a", "slow-b", "slow-c", "slow-d")
    after(lab.slide_json("many", "a").exists, dask.scheduler.kill)
    with pytest.raises(ClusterUnusable, match="the connection to the Dask scheduler was lost"):
        lab.run("many", scheduler=dask.address)
    facts = lab.facts("many")
    assert facts["exit_code"] == 1
    assert lab.published("many") == {slide["slide"] for slide in facts["slides"] if slide["status"] == "ok"} >= {"a"}

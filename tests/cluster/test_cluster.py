"""Runs on a real Dask cluster: a scheduler and workers, each a process of its own, on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import dask_faults
import fakes
import pytest
from tiny_models import write_tiny_models

import wbctool
from wbctool.cli.run import run_with_settings
from wbctool.cluster import executor, messages, scheduling, worker, workers
from wbctool.cluster.messages import Equipment, Job
from wbctool.cluster.scheduling import TRIES, Flights
from wbctool.cluster.workers import Member, Roster
from wbctool.enums import Device, Precision
from wbctool.errors import AuditLogCorrupt, ClusterUnusable, MissingDependency
from wbctool.inference.model_card import read_card
from wbctool.paths import OutputPaths
from wbctool.pipeline.context import RunContext
from wbctool.settings import load_settings
from wbctool.store.slide_record import SlideOutcome, make_failed_outcome
from wbctool.types.cells import Slide

pytest.importorskip("distributed")

ROOT = Path(__file__).parents[2]
LEAVE = {"run.json", ".lock", ".lock-holder.json", ".seen.json"}
DARK = ["neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil", "erythroblast"]


def wait_until(so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


class Dask:
    """A scheduler, and workers on demand. Everything it starts it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        self._start("scheduler", "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
        wait_until((folder / "scheduler.json").exists)
        self.address = json.loads((folder / "scheduler.json").read_text())["address"]

    def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        preload = dask_faults.__file__
        options = ("--nworkers", "1", "--nthreads", "1", "--preload", preload, *options)
        return self._start("worker", self.address, "--local-directory", str(self.folder), *options, **environment)

    def _start(self, what: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", what, *options, "--host", "127.0.0.1", "--no-dashboard"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        with (self.folder / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder))
        return self.processes[-1]

    def end(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A cluster of two workers, each of which is started anew when it dies."""
    started = Dask(tmp_path_factory.mktemp("dask"))
    started.worker()
    started.worker()
    yield started
    started.end()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


class Lab:
    """Slides, and runs on them in this process."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder, self.slides, self.models = folder, folder / "slides", models

    def draw(self, *names: str, fields: int = 2) -> None:
        for number, name in enumerate(names):
            for field in range(fields):
                fakes.draw_field(self.slides / name / f"f{field}.png", DARK[: 1 + (number + field) % len(DARK)])

    def run(self, out: str, **flags: object) -> int:
        wanted = {"slides": self.slides, "out": self.folder / out / "counts.csv", "models_dir": self.models}
        return run_with_settings(load_settings({**wanted, "device": Device.CPU, "quiet": True, **flags}))

    def tree(self, out: str) -> dict[str, bytes]:
        files = [path for path in (self.folder / out).rglob("*") if path.is_file() and path.name not in LEAVE]
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in files}

    def facts(self, out: str) -> dict:
        return json.loads((self.folder / out / "counts" / "run.json").read_text())


@pytest.fixture
def lab(tmp_path: Path, models: Path) -> Lab:
    return Lab(tmp_path, models)


def test_the_same_bytes_as_on_one_machine(lab: Lab, dask: Dask, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    names = [f"s{number}" for number in range(10)]
    lab.draw(*names)
    (lab.slides / "s3" / "broken.jpg").write_text("no image")
    (lab.slides / "s4" / "f9.png").write_bytes((lab.slides / "s4" / "f0.png").read_bytes())
    (lab.slides / "slides.csv").write_text("slide,patient,age,analyser_wbc\ns5,P-1,54,7.2\n")
    on_their_way, give_out = [], Flights._give_out

    def watched(self: Flights, supply) -> None:
        give_out(self, supply)
        on_their_way.append(len(self._flights))

    monkeypatch.setattr(Flights, "_give_out", watched)
    monkeypatch.chdir(lab.folder)  # a path that the workers, who are elsewhere, could not follow
    caplog.set_level("INFO", "wbctool")
    assert lab.run("one") == 3
    told = {record.getMessage() for record in caplog.records if "field" in record.getMessage()}
    assert any("broken.jpg" in message for message in told)
    caplog.clear()
    assert lab.run("many", slides=Path("slides"), scheduler=dask.address) == 3
    assert lab.tree("many") == lab.tree("one")
    assert told <= {record.getMessage() for record in caplog.records}
    assert 2 < max(on_their_way) <= 2 * scheduling._WINDOW
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


def test_a_killed_worker_costs_no_slide_and_a_deadly_slide_no_other(lab: Lab, dask: Dask, monkeypatch) -> None:
    monkeypatch.setattr(scheduling, "TRIES", 2)
    lab.draw("a", "fatal", "b", "slow", "deadly", "c", "odd")
    assert lab.run("one") == 0
    assert lab.run("many", scheduler=dask.address) == 3
    facts = lab.facts("many")
    assert facts["cluster"]["workers_lost"] == 3
    slides = {slide["slide"]: slide for slide in facts["slides"]}
    assert {name for name, slide in slides.items() if slide["status"] != "ok"} == {"deadly", "odd"}
    assert "RecursionError" in slides["odd"]["errors"][0]["cause"]
    (error,) = slides["deadly"]["errors"]
    assert error["stage"] == "cluster"
    assert "given up after 2 attempts" in error["cause"]
    assert socket.gethostname() in error["cause"]
    one, many = lab.tree("one"), lab.tree("many")
    of_all = {"counts.csv", "counts/index.html"}
    assert {
        name for name in one if name not in of_all and "deadly" not in name and "odd" not in name
    } == many.keys() - of_all
    assert all(many[name] == one[name] for name in many.keys() - of_all)
    for name in ("deadly", "odd"):  # what failed, the next run does
        (lab.slides / name).rename(lab.slides / ("x" + name[::-1]))
    assert lab.run("many", scheduler=dask.address) == 0


def test_a_signal_ends_the_run_and_what_is_published_stays(lab: Lab, dask: Dask) -> None:
    lab.draw(*[f"slow-{number}" for number in range(8)])
    first = lab.folder / "many" / "counts" / "slow-0" / "slide.json"

    def stop_soon() -> None:
        wait_until(first.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_soon, daemon=True).start()
    assert lab.run("many", scheduler=dask.address) == 143
    facts = lab.facts("many")
    assert facts["stopped_by"] == "SIGTERM"
    assert 1 <= facts["counts"]["ok"] < 8
    done = {slide["slide"] for slide in facts["slides"] if slide["status"] == "ok"}
    assert {path.parent.name for path in (lab.folder / "many").rglob("slide.json")} == done
    assert lab.run("many", scheduler=dask.address) == 0
    assert lab.run("one") == 0
    assert lab.tree("many") == lab.tree("one")


def test_max_failures(lab: Lab, dask: Dask) -> None:
    lab.draw("a", "b", "c", "d", "e")
    for name in "bcde":
        (lab.slides / name / "broken.png").write_text("no image")
    assert lab.run("many", scheduler=dask.address, max_failures=2) == 3
    assert lab.facts("many")["stopped_by"] == "max_failures"
    assert [slide["status"] for slide in lab.facts("many")["slides"]] == ["ok", "partial", "partial", *["waiting"] * 2]


def test_workers_that_differ_are_refused_by_name(lab: Lab, tmp_path: Path) -> None:
    other = write_tiny_models(tmp_path / "other")
    card = read_card(other / "classifier.json")
    altered = (other / "classifier.onnx").read_bytes() + b"\x0a\x00"  # an empty field more, which onnxruntime skips
    (other / "classifier.onnx").write_bytes(altered)
    sha256 = hashlib.sha256(altered).hexdigest()
    (other / "classifier.json").write_text(card.model_copy(update={"sha256": sha256}).model_dump_json())
    lab.draw("a", "b", "c")
    own = Dask(tmp_path)
    try:
        own.worker("--no-nanny", "--worker-port", "0", **{dask_faults.VERSION: "0.0.9"})
        own.worker("--no-nanny", **{dask_faults.MODELS: str(other)})
        good = own.worker("--no-nanny")
        wait_for_workers(own.address, 3)
        assert lab.run("many", scheduler=own.address) == 0
        facts = lab.facts("many")["cluster"]
        assert facts["workers"] == 1
        causes = sorted(facts["workers_refused"].values())
        assert causes[0].startswith("it has wbctool 0.0.9, but this run uses wbctool ")
        ours = read_card(lab.models / "classifier.json").sha256
        assert causes[1] == f"its classifier.onnx has SHA-256 {sha256}, classifier.onnx here {ours}"
        assert all(name.startswith("tcp://127.0.0.1:") for name in facts["workers_refused"])
        good.kill()
        good.wait()
        with pytest.raises(ClusterUnusable, match=r"no worker can process slides: .*SHA-256"):
            lab.run("none", scheduler=own.address)
    finally:
        own.end()


def wait_for_workers(address: str, number: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(number, timeout=30)


def test_a_scheduler_that_is_not_there_is_said_soon(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_CONNECT_S", 1.0)
    lab.draw("a")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        began = time.monotonic()
        with pytest.raises(ClusterUnusable, match=r"the Dask scheduler at .*127\.0\.0\.1:.* cannot be reached"):
            lab.run("many", scheduler=f"127.0.0.1:{bound.getsockname()[1]}")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("address", ["x", "tcp://x", "x:abc", ":", "foo://x:1", "::1", "inproc://x"])
def test_an_address_that_is_none_makes_no_client(lab: Lab, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    import distributed

    monkeypatch.setattr(distributed, "Client", None)  # one that could not be made says so ten seconds later
    lab.draw("a")
    with pytest.raises(
        ClusterUnusable, match=r"the Dask scheduler at .* cannot be reached: .*; give an address such as tcp://"
    ):
        lab.run("many", scheduler=address)


@pytest.mark.parametrize("address", ["tcp://x:1", "x:1", "tls://[::1]:1", "ws://x:1", "ucx://x:1"])
def test_an_address_of_any_kind_is_one(address: str) -> None:
    executor._check_address(address)


def test_a_scheduler_of_another_version_is_refused(lab: Lab, dask: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.draw("a")
    monkeypatch.setattr("wbctool.__version__", "0.0.8")
    with pytest.raises(
        ClusterUnusable, match=r"the scheduler at tcp://.* has wbctool .*, but this run uses wbctool 0\.0\.8"
    ):
        lab.run("many", scheduler=dask.address)


def test_without_the_extra_it_is_named(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.draw("a")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency, match=r"--scheduler needs distributed: pip install 'wbctool\[executor\]'"):
        lab.run("many", scheduler="127.0.0.1:1")


class NobodyAtFirst:
    """A scheduler's client and roster in one: a worker comes after a while, and has the same answer to everything."""

    def __init__(self, answer: object) -> None:
        self.answer, self.members = answer, dict[str, Member]()
        self.job, self.waits_for, self.looks = Job("run", None), 0, 0

    def look(self) -> set[str]:
        self.looks += 1
        if self.looks == 2:
            worker = Equipment("process", "host", 0.0, "", fakes.provenance(), {}, None)
            self.members["address"] = Member("address", worker, 1, {})
        return set()

    def submit(self, *_: object, **__: object) -> Future:
        answered = Future()
        answered.status = "finished"
        answered.set_result(self.answer)
        return answered


def flown(answer: object, tmp_path: Path) -> list[SlideOutcome]:
    """What becomes of three slides that all have this answer from a worker."""
    return flown_by(NobodyAtFirst(answer), tmp_path, "abc")


def flown_by(nobody: NobodyAtFirst, tmp_path: Path, names: str) -> list[SlideOutcome]:
    layout = OutputPaths(tmp_path / "counts.csv")
    settings = load_settings({"slides": tmp_path, "out": layout.counts_csv})
    work = RunContext(settings, fakes.fake_stages(settings))
    slides = [Slide(name, tmp_path, ()) for name in names]
    return list(Flights(nobody, nobody, work).outcomes(slides))


def test_no_slide_is_forgotten_while_there_is_no_worker(tmp_path: Path) -> None:
    outcomes = flown(messages.Failed("seen by the worker"), tmp_path)
    assert [outcome.slide for outcome in outcomes] == ["a", "b", "c"]
    assert {outcome.failures[0].cause for outcome in outcomes} == {"host: seen by the worker"}


class Forgetful(NobodyAtFirst):
    """Its worker forgets the run more often than a slide may kill workers, then answers."""

    def __init__(self, process: str) -> None:
        super().__init__(messages.Failed("seen by the worker"))
        self.process, self.forgets, self.asked_again, self.lost = process, TRIES + 2, 0, 0

    def submit(self, *_: object, **__: object) -> Future:
        self.forgets -= 1
        answered = Future()
        answered.status = "finished"
        answered.set_result(messages.Unknown(self.process) if self.forgets >= 0 else self.answer)
        return answered

    def ask_again(self, member: Member) -> None:
        self.asked_again += 1

    def forget_if_there(self, member: Member) -> None:
        self.lost += 1


def test_a_worker_that_has_forgotten_the_run_is_no_mishap_of_the_slide(tmp_path: Path) -> None:
    """Its process lives; the slide did nothing to it."""
    roster = Forgetful("process")
    (outcome,) = flown_by(roster, tmp_path, "a")
    assert outcome.failures[0].cause == "host: seen by the worker"
    assert (roster.asked_again, roster.lost) == (TRIES + 2, 0)


def test_a_worker_that_was_started_anew_is_a_mishap_of_the_slide(tmp_path: Path) -> None:
    """It died while doing it: at a fixed port nothing else tells of that."""
    roster = Forgetful("another process")
    (outcome,) = flown_by(roster, tmp_path, "a")
    assert outcome.failures[0].cause.startswith(
        f"given up after {TRIES} attempts: worker address on host was restarted"
    )
    assert (roster.asked_again, roster.lost) == (0, TRIES)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> worker._Process:
    """A worker's process without models."""
    process = worker._Process()
    monkeypatch.setattr(worker, "_PROCESS", process)
    return process


def keep(*names: str) -> None:
    for name in names:
        worker._keep(name, worker._Run(None, None))


def test_a_run_that_shares_a_worker_with_many_is_kept_while_it_is_in_use(process) -> None:
    keep("first", "second", "third", "fourth", "fifth", "sixth")
    assert list(process.runs) == ["first", "second", "third", "fourth", "fifth", "sixth"]
    for run in process.runs.values():
        run.used -= worker._IDLE_S + 1
    process.runs["second"].used -= 1
    with worker._in_use("first"):  # a slide that takes its time
        keep("seventh")
    assert list(process.runs) == ["first", "fifth", "sixth", "seventh"]
    assert process.runs["first"].slides == 0
    keep("eighth")
    assert list(process.runs) == ["first", "sixth", "seventh", "eighth"]  # the first has just been used


def test_few_runs_are_kept_however_long_they_are_idle(process) -> None:
    keep("first", "second", "third")
    process.runs["first"].used = float("-inf")
    keep("fourth")
    assert list(process.runs) == ["first", "second", "third", "fourth"]


def test_runs_that_come_and_go_at_once_do_not_fail_each_other(process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_IDLE_S", -1.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(keep, map(str, range(2000))))
    finally:
        sys.setswitchinterval(before)
    assert len(process.runs) == 4


def test_a_process_that_does_not_know_the_run_says_which_it_is(process, tmp_path: Path) -> None:
    answer = worker.do_slide("gone", process.id, Slide("a", tmp_path, ()), None, True)
    assert answer == messages.Unknown(process.id)


def test_a_slide_that_cannot_be_published_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AuditLogCorrupt("line 3 of audit.jsonl is damaged")

    monkeypatch.setattr(scheduling, "publish_files", broken)
    done = make_failed_outcome(Slide("x", tmp_path, ()), "none", "none", ())
    outcomes = flown(messages.SlideDone(done, SimpleNamespace(), (), (), {}), tmp_path)
    assert [outcome.slide for outcome in outcomes] == ["a", "b", "c"]
    assert {outcome.failures[0].stage for outcome in outcomes} == {"report"}
    assert "audit.jsonl is damaged" in outcomes[0].failures[0].cause


def test_a_worker_that_was_started_anew_is_forgotten_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def member(process: str) -> Member:
        return Member("address", Equipment(process, "host", 0.0, "", fakes.provenance(), {}, None), 1, {})

    old, new = member("old"), member("new")
    roster = Roster(SimpleNamespace(), Job("run", None), dict)
    roster.members["address"] = old
    for _ in range(2):  # it had two slides
        roster.forget_if_there(old)
    assert (roster.members, roster.lost) == ({}, {"old"})
    roster.members["address"] = new
    roster.forget_if_there(old)
    assert roster.members == {"address": new}


class Answering:
    """A client of one worker. answers: what becomes of each question in turn; an error is raised as it is gathered."""

    status = "running"

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def nthreads(self) -> dict[str, int]:
        return {"tcp://w:1": 1}

    def submit(self, *_: object, **__: object) -> SimpleNamespace:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        def result(timeout: float) -> object:
            assert 0 < timeout <= 60
            if isinstance(answer, Exception):
                raise answer
            return answer

        return SimpleNamespace(status="finished", done=lambda: True, result=result)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_whose_answer_is_lost_is_asked_again(monkeypatch: pytest.MonkeyPatch, lost: int) -> None:
    """It may have died just then; until now that ended the run with a traceback, or hung it. lost: which of two."""
    monkeypatch.setattr(workers, "_BETWEEN_LOOKS_S", 0.0)
    equipment = Equipment("process", "host", 0.0, wbctool.__version__, fakes.provenance(), {}, None)
    answers: list[object] = [wbctool.__version__, equipment, wbctool.__version__, equipment]
    answers[lost] = TimeoutError()
    roster = Roster(Answering(*answers), Job("run", None), dict)
    roster.look()
    assert not roster.candidates
    roster.look()
    assert roster.candidates == {"tcp://w:1": equipment}
    assert not roster.refused


def test_a_worker_whose_answers_are_always_lost_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_BETWEEN_LOOKS_S", 0.0)
    roster = Roster(Answering(OSError("gone")), Job("run", None), dict)
    for _ in range(4):
        roster.look()
    assert roster.refused == {"tcp://w:1": "its answers were lost 3 times, the last by OSError('gone')"}
    assert roster.waits_for == 0


def test_models_are_loaded_once_a_process(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(worker, "_PROCESS", worker._Process())
    monkeypatch.setattr("wbctool.inference.loading.load_models", lambda *how, **more: loaded.append(how) or object())
    first = worker._kept_models(models, Device.CPU, Precision.AUTO)
    assert worker._kept_models(models, Device.CPU, Precision.AUTO) is first
    assert worker._kept_models(models, Device.CPU, Precision.FP32) is not first
    assert len(loaded) == 2


def test_a_run_on_one_machine_does_not_import_dask() -> None:
    code = "import sys, wbctool.cli.run, wbctool.pipeline.run; sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0

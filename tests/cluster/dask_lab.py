"""A real Dask cluster on the loopback interface, and runs on it: each of its processes is one of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import fakes
from distributed import Client

from wbctool.cli.progress import NullProgress
from wbctool.cli.run import run_with_settings
from wbctool.cluster.executor import DaskExecutor
from wbctool.cluster.task_queue import ClusterLimits
from wbctool.enums import Device
from wbctool.paths import OutputPaths
from wbctool.pipeline.run import StopRequest, run_folder
from wbctool.settings import load_settings

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).with_name("dask_faults.py")
NOT_COMPARED = {"run.json", ".lock", ".lock-holder.json", ".seen.json"}
DARK = [(90 + 12 * i, 40 + 4 * i, 130 + 9 * i) for i in range(6)]  # as a stained smear has them: others fail
MODELS, VERSION = "WBCTOOL_TEST_MODELS", "WBCTOOL_TEST_VERSION"  # of dask_faults


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Dask:
    """A scheduler, and workers on demand. Everything it starts it ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, list[subprocess.Popen[bytes]]()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        self.scheduler = self._start("scheduler", "--port", str(port))

    def worker(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one, or ``--nworkers`` of them; it waits for its scheduler."""
        options = ("--nworkers", "1", "--nthreads", "1", "--preload", str(FAULTS), *options)
        return self._start("worker", self.address, "--local-directory", str(self.folder), *options, **environment)

    def wait_for_workers(self, number: int) -> None:
        """Wait until there are so many, as after tests in which some die and are started again."""
        with Client(self.address, set_as_default=False, timeout=60) as client:
            client.wait_for_workers(number, timeout=60)

    def _start(self, what: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", what, *options, "--host", "127.0.0.1", "--no-dashboard"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **environment}
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


class Lab:
    """Slides, and runs on them in this process."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder, self.slides, self.models = folder, folder / "slides", models

    def draw(self, *names: str, fields: int = 2) -> None:
        for number, name in enumerate(names):
            for field in range(fields):
                fakes.draw_field(self.slides / name / f"f{field}.png", DARK[: 1 + (number + field) % len(DARK)])

    def flags(self, out: str) -> dict[str, object]:
        output = {"slides": self.slides, "out": self.folder / out / "counts.csv", "models_dir": self.models}
        return {**output, "device": Device.CPU, "quiet": True}

    def run(self, out: str, **flags: object) -> int:
        return run_with_settings(load_settings({**self.flags(out), **flags}))

    def run_with(self, out: str, address: str, limits: ClusterLimits) -> int:
        """Run with other limits than those of ``wbctool run``."""
        settings, stop = load_settings(self.flags(out)), StopRequest()
        with closing(DaskExecutor(settings, address, stop, limits)) as executor:
            return run_folder(settings, executor, ["wbctool", "run"], NullProgress(), stop)

    def tree(self, out: str) -> dict[str, bytes]:
        files = [path for path in (self.folder / out).rglob("*") if path.is_file() and path.name not in NOT_COMPARED]
        return {str(path.relative_to(self.folder / out)): path.read_bytes() for path in files}

    def facts(self, out: str) -> dict:
        return json.loads((self.folder / out / "counts" / "run.json").read_text())

    def slide_json(self, out: str, slide: str) -> Path:
        return OutputPaths(self.folder / out / "counts.csv").slide_file(slide, "slide.json")

    def published(self, out: str) -> set[str]:
        return {path.parent.name for path in (self.folder / out).rglob("slide.json")}


def after(condition: Callable[[], bool], act: Callable[[], object]) -> None:
    """Act in a thread once something is so."""

    def wait_and_act() -> None:
        wait_until(condition)
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()

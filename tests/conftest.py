"""Fixtures that the tests share: fields on disk, and a run with fake stages in one call."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import fakes
import pytest

from wbctool.cli.progress import NullProgress
from wbctool.enums import Device, Precision
from wbctool.inference import loading, session
from wbctool.inference.model_card import default_models_dir
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.executor import LocalExecutor
from wbctool.pipeline.run import StopRequest, run_folder
from wbctool.settings import load_settings
from wbctool.store.checksum import add_checksum

DEMO = Path(__file__).parent / "data" / "slides"


_MARKERS = {
    "training": "train",
    "experiments": "train",
    "cluster": "cluster",
    "browser": "browser",
    "robustness": "fault",
}
"""The marker of every test below a folder of tests/."""
_LONGEST = ("train", "fault", "cluster", "browser", "slow")

_NEED_TORCH = ["training", "experiments", "benchmarks/test_gpu.py", "tiny_training.py"]
collect_ignore = [] if find_spec("torch") else _NEED_TORCH


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and begin with those that take longest, so that no core waits for them at the end."""
    for item in items:
        for folder, marker in _MARKERS.items():
            if item.path.is_relative_to(Path(__file__).parent / folder):
                item.add_marker(marker)
    items.sort(
        key=lambda item: next((i for i, name in enumerate(_LONGEST) if item.get_closest_marker(name)), len(_LONGEST))
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="run the tests of tests/robustness in full, as `make fault` does"
    )
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/cli anew")
    parser.addoption("--screenshots", type=Path, help="a folder for the screenshots of the browser tests")


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Let fsync do no more than refuse a closed file: a run calls it more than twenty times, and no test cuts power.

    Tests of what is synced, and when, replace it themselves; commands in processes of their own call the real one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Let OpenCV and loaded models compute on one thread: pytest-xdist gives every core a process of its own."""

    def create(card: Any, content: bytes, provider: str = session.CPU, threads: int = 0) -> Any:
        return session.create_session(card, content, provider, threads or 1)

    cv2.setNumThreads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "create_session", create)
        yield


@pytest.fixture(scope="session")
def demo_slides() -> Path:
    """The real demo slides; do not write to them."""
    return DEMO


@pytest.fixture(scope="session")
def shipped_models() -> loading.Models:
    """The shipped models in fp32 on the CPU; do not change them."""
    return loading.load_models(default_models_dir(), Device.CPU, Precision.FP32)


@pytest.fixture
def real_jpeg() -> Path:
    """Return the path of a real field."""
    return min((DEMO / "slide-01").iterdir())


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Draw two slides: s2 with 3 cells in 2 fields, s10 with 12 cells in 1 field."""
    root = tmp_path / "slides"
    fakes.draw_field(root / "s2" / "f1.png", ["neutrophil", "lymphocyte"])
    fakes.draw_field(root / "s2" / "f2.png", ["review"])
    fakes.draw_field(root / "s10" / "f1.png", ["neutrophil"] * 9 + ["monocyte", "erythroblast", "platelet"])
    return root


class Runner:
    """Runs with fake stages.

    Attributes:
        looked: The names of the fields that the last run analyzed.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out, self.looked = root, out, list[str]()
        self.detect = fakes.detect
        self.classify = fakes.classify
        self.stop = StopRequest()
        self.model = "ab" * 32
        self.progress: NullProgress = NullProgress()
        self.now: Callable[[], float] = time.time

    def __call__(self, **settings: Any) -> int:
        parsed = load_settings({"slides": self.root, "out": self.out, **settings})
        self.looked.clear()

        def detect(field: Any, _: Any) -> Any:
            self.looked.append(field.name)
            return self.detect(field)

        def load() -> BoundStages:
            return replace(fakes.fake_stages(parsed, self.model), detect=detect, classify=self.classify)

        return run_folder(parsed, LocalExecutor(load), ["wbctool", "run"], self.progress, self.stop, self.now)

    @property
    def folder(self) -> Path:
        return self.out.with_suffix("")

    def rows(self) -> dict[str, dict[str, str]]:
        """Return the rows of counts.csv by slide, in their order."""
        with self.out.open(newline="", encoding="utf-8") as lines:
            return {row["slide"]: row for row in csv.DictReader(lines)}

    def tree(self) -> dict[str, bytes]:
        """Return all published files that must not depend on when and how fast they were made."""
        leave = {"run.json", ".lock", ".lock-holder.json", ".seen.json"}
        files = [p for p in self.folder.rglob("*") if p.is_file() and p.name not in leave]
        return {str(p.relative_to(self.out.parent)): p.read_bytes() for p in [self.out, *files]}


@pytest.fixture
def run(slides: Path, tmp_path: Path) -> Runner:
    return Runner(slides, tmp_path / "out" / "counts.csv")


@pytest.fixture
def without_openslide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the extra for whole-slide scans be missing."""
    monkeypatch.setattr("wbctool.imaging.scan.can_read_scans", lambda: False)


@pytest.fixture
def draw() -> Callable[..., Path]:
    return fakes.draw_field


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the program be killed before a file of this name gets its content, until the patch is undone."""
    replace_file = Path.replace

    def kill_at(name: str) -> None:
        def replace_until(temporary: Path, target: Path) -> Path:
            if target.name == name:
                raise KeyboardInterrupt
            return replace_file(temporary, target)

        monkeypatch.setattr(Path, "replace", replace_until)

    return kill_at


@pytest.fixture
def make_former() -> Callable[[Runner], None]:
    """Make results those of the version before: their records do not tell what decides the cells, or the renderer."""

    def make_former(run: Runner) -> None:
        for path in run.folder.rglob("*slide.json"):
            content = json.loads(path.read_text())
            for key in ("sha256", "cells_fingerprint", "renderer"):
                del content[key]
            path.write_text(json.dumps(add_checksum(content)))

    return make_former

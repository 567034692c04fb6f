"""What the fault tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_lab import Lab
from tiny_models import write_tiny_models


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether `make fault` asked for the whole of it."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def lab(tiny_models: Path, tmp_path: Path) -> Lab:
    return Lab(tmp_path / "slides", tiny_models)


@pytest.fixture
def fill(lab: Lab, demo_slides: Path) -> Callable[[int, int], None]:
    """Fills the folder with slides of real fields: so many slides, so many fields each, no two slides alike."""
    fields = sorted(demo_slides.glob("*/*.jpg"))

    def fill(slides: int, fields_each: int) -> None:
        for slide in range(slides):
            folder = lab.slides / f"slide-{slide:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(fields_each):
                shutil.copy(fields[(slide * 7 + index) % len(fields)], folder / f"field-{index:03d}.jpg")

    return fill


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says what was tried, past pytest's capture."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}", flush=True)

    return say

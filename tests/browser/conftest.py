"""A run with real pixels and made-up classes, and Chromium to open its pages.

The tests are skipped without Chromium and its driver (Debian: chromium and chromium-driver).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from driver import Window, driver_problem, start_driver
from PIL import Image, ImageOps

from wbctool.cli.progress import NullProgress
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.resize import resize_square
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.executor import LocalExecutor
from wbctool.pipeline.run import StopRequest, run_folder
from wbctool.settings import load_settings
from wbctool.stages.preprocess import ClassifierInput
from wbctool.types.cells import Box, Crop, Detection, Field

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides").glob("slide-0[12]/*.jpg"))
NORMAL = ["neutrophil"] * 58 + ["lymphocyte"] * 30 + ["monocyte"] * 7 + ["eosinophil"] * 4 + ["basophil"]
FLAGGED = [*NORMAL[:60:2], *["review"] * 6, *["odd"] * 3, "immature_granulocyte", "erythroblast", "platelet"]


def detect(field: Field, *_: object) -> tuple[Detection, ...]:
    """Detect the seven darkest blocks of a field in the green channel, which are nuclei and platelets."""
    height, width = (side // 64 for side in field.rgb.shape[:2])
    blocks = field.rgb[: 64 * height, : 64 * width, 1].reshape(height, 64, width, 64).mean(axis=(1, 3)).ravel()
    darkest = sorted(blocks.argsort(kind="stable")[:7])
    return tuple(Detection(Box(64 * int(i % width), 64 * int(i // width), 64, 64), 0.9) for i in darkest)


def classify_as(names: list[str]) -> Callable[[Any], Any]:
    """Return a classifier that picks one of ``names`` by the pixels of a cell."""

    def classify(rgb: Any) -> Any:
        predictions = []
        for pixels in rgb:
            number = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:4])
            prediction = fakes.predict(names[number % len(names)])
            predictions.append(replace(prediction, cam=bytes((number * i) % 256 for i in range(64))))
        return tuple(predictions)

    return classify


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return counts.csv of a run of four slides (normal, with flags, empty, failed); do not change its files."""
    folder = tmp_path_factory.mktemp("browser")
    root, out = folder / "slides", folder / "counts.csv"
    (root / "normal").mkdir(parents=True)
    for n, path in enumerate(DEMO * 2):
        turn = (ImageOps.mirror, ImageOps.flip)[n // len(DEMO)]
        turn(Image.open(path)).save(root / "normal" / f"field-{n:02d}.png")
    run(root, out, NORMAL)
    (root / "ward 3" / "<flags>").mkdir(parents=True)
    for path in DEMO[8:]:
        shutil.copy(path, root / "ward 3" / "<flags>")
    (root / "ward 3" / "<flags>" / "torn.jpg").write_bytes(DEMO[0].read_bytes()[:-700])
    fakes.draw_field(root / "empty" / "blank.png", [])
    (root / "failed").mkdir()
    (root / "failed" / "torn.jpg").write_bytes(DEMO[0].read_bytes()[:-700])
    run(root, out, FLAGGED)
    return out


def run(root: Path, out: Path, names: list[str], **settings: Any) -> int:
    """Run with real crops and the classes of ``names``; return the exit code."""
    parsed = load_settings({"slides": root, "out": out, "adult": True, **settings})

    def crop(field: Field, boxes: Sequence[Box]) -> tuple[Crop, ...]:
        return crop_cells(field, boxes, 1.25)

    def preprocess(crops: Sequence[Crop]) -> ClassifierInput:
        return ClassifierInput(np.stack([resize_square(crop.rgb, 128) for crop in crops]), (True,) * len(crops))

    def load() -> BoundStages:
        stages = fakes.fake_stages(parsed)
        provenance = replace(
            stages.models.provenance, settings=(("low_count_below", str(parsed.limits.low_count_below)),)
        )
        return replace(
            stages,
            models=replace(stages.models, provenance=provenance),
            detect=detect,
            crop=crop,
            preprocess=preprocess,
            classify=classify_as(names),
        )

    return run_folder(parsed, LocalExecutor(load), ["wbctool", "run"], NullProgress(), StopRequest())


@pytest.fixture
def out(finished_run: Path, tmp_path: Path) -> Path:
    """Return counts.csv of a copy of that run, which a test may change."""
    shutil.copytree(finished_run.parent, tmp_path / "copy")
    return tmp_path / "copy" / finished_run.name


@pytest.fixture
def run_again(out: Path) -> Callable[..., int]:
    """Return a function that repeats the run of that copy with other settings."""
    return partial(run, out.parent / "slides", out, FLAGGED)


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if problem := driver_problem():
        pytest.skip(problem)
    downloads = tmp_path_factory.mktemp("downloads")
    driver = start_driver(downloads)
    yield driver, downloads
    driver.quit()


@pytest.fixture
def window(_driver: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Window]:
    """Yield a browser window; afterwards its pages must have logged no message and requested nothing from elsewhere."""
    driver, downloads = _driver
    for path in downloads.iterdir():
        path.unlink()
    screenshots = request.config.getoption("--screenshots") or tmp_path
    screenshots.mkdir(parents=True, exist_ok=True)
    window = Window(driver, downloads, screenshots)
    yield window
    window.close()
    assert window.console_messages == []
    assert window.external_requests == []

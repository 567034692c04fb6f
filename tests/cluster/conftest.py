"""Fixtures of the tests on a Dask cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_models import write_tiny_models

from wbctool.inference.model_card import read_card

if TYPE_CHECKING:
    from dask_lab import Dask, Lab


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """Two workers that are restarted when they die, one of another version and one with another model."""
    from dask_lab import MODELS, VERSION, Dask

    dask = Dask(tmp_path_factory.mktemp("dask"))
    try:
        dask.worker("--nworkers", "2")
        dask.worker("--no-nanny", **{VERSION: "0.0.9"})
        dask.worker("--no-nanny", **{MODELS: str(write_other_models(tmp_path_factory.mktemp("other")))})
        dask.wait_for_workers(4)
        yield dask
    finally:
        dask.end()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


def write_other_models(folder: Path) -> Path:
    """Models that give the same, but whose classifier has another SHA-256."""
    card = read_card(write_tiny_models(folder) / "classifier.json")
    altered = (folder / "classifier.onnx").read_bytes() + b"\x0a\x00"  # an empty field more, which onnxruntime skips
    (folder / "classifier.onnx").write_bytes(altered)
    card = card.model_copy(update={"sha256": hashlib.sha256(altered).hexdigest()})
    (folder / "classifier.json").write_text(card.model_dump_json())
    return folder


@pytest.fixture
def lab(tmp_path: Path, models: Path) -> Lab:
    from dask_lab import Lab

    return Lab(tmp_path, models)

"""`python -m benchmarks.onnxruntime_only`: the calls that a run makes of its models, made again."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_tiny_models

import wbctool
from benchmarks.demo_fields import copy_fields
from benchmarks.onnxruntime_only import Call, record_calls, time_calls
from wbctool.inference.session import SUPER_RESOLVED
from wbctool.settings import RunSettings


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Call], Path]:
    folder = tmp_path_factory.mktemp("bench")
    copy_fields(folder / "slides", 34, divisor=4)
    settings = RunSettings(slides=folder / "slides", out=folder / "out" / "counts.csv", workers=2)
    models = wbctool.load_models(write_tiny_models(folder / "models"), "cpu", "fp32")
    n_cells, calls = record_calls(settings, models)
    return n_cells, calls, folder


def test_record_calls_every_cell_goes_to_both_readers(recorded: tuple[int, list[Call], Path]) -> None:
    n_cells, calls, folder = recorded
    rows: Counter[str] = Counter()
    for call in calls:
        rows[call.model.card.kind] += len(call.batch)
    assert n_cells > 0
    assert rows["classifier"] == rows["compact"] == n_cells
    assert rows["detector"] >= 34
    assert 0 < rows["generator"] <= n_cells
    assert not (folder / "out").exists()


def test_record_calls_the_same_array_is_kept_once(recorded: tuple[int, list[Call], Path]) -> None:
    """The slides repeat the demo's fields."""
    _, calls, _ = recorded
    for kind in ("detector", "classifier"):
        batches = [call.batch for call in calls if call.model.card.kind == kind]
        assert len({id(batch) for batch in batches}) == len({batch.tobytes() for batch in batches}) < len(batches)


def test_time_calls_makes_each_call_again() -> None:
    made = []

    class Model:
        def run(self, batch: np.ndarray, *outputs: str) -> None:
            made.append((len(batch), outputs))

    batches = [np.zeros((n, 8, 8, 3), np.uint8) for n in (1, 2, 3)]
    wall_s, cpu_s = time_calls([Call(Model(), batch, (SUPER_RESOLVED,)) for batch in batches], workers=2)  # type: ignore[arg-type]
    assert sorted(made) == [(n, (SUPER_RESOLVED,)) for n in (1, 2, 3)]
    assert wall_s > 0
    assert cpu_s >= 0

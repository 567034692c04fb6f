"""`make bench`: its data and its tables."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from benchmarks import run
from benchmarks.demo_fields import copy_fields
from benchmarks.processes import ProcessMeasurement
from benchmarks.run import Configuration, format_markdown, run_rounds
from wbctool.enums import Readers


@pytest.mark.parametrize(("divisor", "shape"), [(1, (480, 640, 3)), (4, (120, 160, 3))])
def test_copy_fields_makes_slides_without_a_field_twice(tmp_path: Path, divisor: int, shape: tuple[int, ...]) -> None:
    copy_fields(tmp_path, 18, divisor)
    assert [len(list(slide.iterdir())) for slide in sorted(tmp_path.iterdir())] == [16, 2]
    first = min(tmp_path.iterdir())
    assert len({path.read_bytes() for path in first.iterdir()}) == 16
    assert {cv2.imread(str(path)).shape for path in tmp_path.rglob("*.jpg")} == {shape}


def test_format_markdown_has_one_ratio_a_precision() -> None:
    rounds = {
        "(a) wbctool, fp32": [ProcessMeasurement(s, 2 * s, 400, 20) for s in (11.0, 12.0, 30.0)],
        "(c') ONNX Runtime alone, fp32": [ProcessMeasurement(10.0, 19.0, 300, 20)] * 3,
        "(a) wbctool, int8": [ProcessMeasurement(6.0, 12.0, 380, 20)] * 3,
        "(c') ONNX Runtime alone, int8": [ProcessMeasurement(4.0, 8.0, 290, 20)] * 3,
    }
    text = format_markdown(rounds, 10, 4, Configuration(readers=Readers.COMPACT), [])
    assert "10 fields of 160×120, models: exported, readers: compact" in text
    assert "medians of 3" in text
    assert "| (a) wbctool, fp32 | 12.00 (11.0 to 30.0) | 24.00 | 1200.0 | 20 | 1.7 | 400 |" in text
    ratios = [line for line in text.splitlines() if "times the floor" in line]
    assert ratios == [
        "(a) wbctool, fp32: 1.20 times the floor (c')",
        "(a) wbctool, int8: 1.50 times the floor (c')",
    ]


@pytest.mark.parametrize(("limit_s", "n_rounds"), [(0.0, 1), (25.0, 2), (1000.0, 5)])
def test_run_rounds_no_round_begins_that_would_end_late(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit_s: float, n_rounds: int
) -> None:
    """A round takes ten seconds."""
    seconds = [0.0]

    def run_round(*_: object) -> Iterator[tuple[str, ProcessMeasurement]]:
        seconds[0] += 10
        yield "(a)", ProcessMeasurement(10, 10, 1, 1)

    monkeypatch.setattr(run, "run_round", run_round)
    monkeypatch.setattr(run.time, "perf_counter", lambda: seconds[0])
    assert len(run_rounds(tmp_path, Configuration(), 5, limit_s, baseline=False)["(a)"]) == n_rounds

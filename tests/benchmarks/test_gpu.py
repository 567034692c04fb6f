"""`python -m benchmarks.gpu`: its measurements on a CPU, and its rows where there is no GPU."""

from pathlib import Path

import pytest
import torch
from tiny_models import write_tiny_models
from wbctool_training.recipe_files import load_recipe

from benchmarks import gpu
from wbctool.inference.session import CPU

pytestmark = pytest.mark.train


@pytest.mark.parametrize("bound", [False, True])
def test_time_inference_counts_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: bool) -> None:
    """The clock tells a second more whenever it is read, at the start and before and after each of four calls."""
    content = (write_tiny_models(tmp_path) / "classifier.onnx").read_bytes()
    seconds = iter(range(1000))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: float(next(seconds)))
    assert gpu.time_inference(content, CPU, 2, bound, seconds=5.0) == pytest.approx(4 * 2 / 5)


@pytest.mark.parametrize("make", [gpu.make_srgan, gpu.make_classifier])
def test_time_training_counts_the_crops(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second; the first three are not counted."""
    seconds = iter(range(1000))
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: float(next(seconds)))
    recipe = load_recipe("default")
    small = {"generator_blocks": 1, "generator_width": 8, "discriminator_width": 8, "discriminator_hidden": 8}
    recipe = recipe.model_copy(update={"networks": recipe.networks.model_copy(update=small)})
    module, arrays = make(recipe, 2)  # type: ignore[operator]
    before = [p.detach().clone() for p in module.network.parameters() if p.requires_grad]
    assert gpu.time_training(module, arrays, seconds=2.0, accelerator="cpu") == pytest.approx(2.0)
    after = [p for p in module.network.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_main_without_a_gpu_says_why_rows_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "run_gpu_tests", lambda: "exit code 0: 3 skipped")
    gpu.main([])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert rows[0] == "| tests marked gpu | exit code 0: 3 skipped |"
    assert len(rows) == 1 + 2 * 3 * 2 + 2
    assert all("| skipped: " in row for row in rows[1:])
    assert "CUDA" in rows[1]
    assert "sees no GPU" in rows[-1]

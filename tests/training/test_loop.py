"""The training loop computes in what the machine is fast in."""

from pathlib import Path

import pytest
import torch

from training.loop import precision_here
from wbctool import processor


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", "32-true"),
        ("flags : fpu avx2 avx512f avx512_bf16", "bf16-mixed"),
        ("flags : fpu avx2 amx_bf16 amx_tile", "bf16-mixed"),
        ("Features : fp asimd bf16", "bf16-mixed"),
    ],
)
def test_without_a_gpu_the_processor_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    """Emulated, a step of the classifier took 30 s and not 3.5."""
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(processor, "_FLAGS", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision_here() == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_with_a_gpu_the_gpu_decides(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert precision_here() == precision

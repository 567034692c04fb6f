import pytest

from benchmarks import processes
from wbctool.cli.doctor import Check
from wbctool.enums import Device


def test_describe_machine_names_the_runtime_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "check_package", lambda name: Check(name, name != "onnxruntime-gpu", "1.0"))
    assert processes.describe_machine(Device.CPU).endswith(", onnxruntime 1.0, opencv-python-headless 1.0")

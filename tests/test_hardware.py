"""Whether there is a GPU, by what Linux says of it."""

import pytest

from wbctool.hardware import has_nvidia_gpu


def put(root, path, content=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def test_has_nvidia_gpu_is_false_on_a_plain_machine(tmp_path):
    put(tmp_path, "dev/nvram")
    put(tmp_path, "dev/nvidia-uvm")
    put(tmp_path, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n")
    put(tmp_path, "sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n")
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n")  # the sound of a graphics card that is gone
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n")
    assert not has_nvidia_gpu(tmp_path)


@pytest.mark.parametrize(
    "path", ["dev/nvidia0", "proc/driver/nvidia/gpus/0000:01:00.0", "usr/lib/wsl/lib/nvidia-smi", "dev/nvmap"]
)
def test_has_nvidia_gpu_knows_what_a_driver_makes(tmp_path, path):
    put(tmp_path, path)
    assert has_nvidia_gpu(tmp_path)


def test_has_nvidia_gpu_knows_a_gpu_without_driver(tmp_path):
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n")
    assert has_nvidia_gpu(tmp_path)

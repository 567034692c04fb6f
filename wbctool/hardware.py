"""What the processor can do, whether there is a GPU, and how many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}
# What a driver makes: on a PC, in Windows' Linux, on a Jetson.
_NVIDIA_DEVICES = ("dev/nvidia[0-9]*", "proc/driver/nvidia/gpus/*", "usr/lib/wsl/lib/nvidia-smi", "dev/nvmap")
_CPUINFO = Path("/proc/cpuinfo")  # of Linux; on other systems both answers are no, which is slower but never wrong


def has_vnni() -> bool:
    """Return whether the processor adds products of int8 in 32 bits (VNNI)."""
    return _has_any_flag(_VNNI_FLAGS)


def has_bf16() -> bool:
    """Return whether the processor multiplies in bfloat16. Otherwise it emulates it, much more slowly than float32."""
    return _has_any_flag(_BF16_FLAGS)


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Return whether Linux knows of an NVIDIA GPU, with a driver or without one.

    Args:
        root: The root of the file system.
    """
    if any(any(root.glob(pattern)) for pattern in _NVIDIA_DEVICES):
        return True
    return any(_is_nvidia_display(vendor.parent) for vendor in root.glob("sys/bus/pci/devices/*/vendor"))


def usable_cores() -> int:
    """Return the number of cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_nvidia_display(device: Path) -> bool:
    """Return whether a PCI device is a display controller or 3D accelerator of NVIDIA."""
    try:
        vendor, kind = (device / "vendor").read_text().strip(), (device / "class").read_text().strip()
    except OSError:
        return False
    return vendor == "0x10de" and kind.startswith("0x03")


def _has_any_flag(flags: set[str]) -> bool:
    """Return whether the kernel lists one of some features of the processor."""
    try:
        return not flags.isdisjoint(_CPUINFO.read_text().split())
    except OSError:
        return False

"""What the processor can do, and how many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}
_CPUINFO = Path("/proc/cpuinfo")  # of Linux; on other systems both answers are no, which is slower but never wrong


def has_vnni() -> bool:
    """Return whether the processor adds products of int8 in 32 bits (VNNI)."""
    return _has_any_flag(_VNNI_FLAGS)


def has_bf16() -> bool:
    """Return whether the processor multiplies in bfloat16. Otherwise it emulates it, much more slowly than float32."""
    return _has_any_flag(_BF16_FLAGS)


def usable_cores() -> int:
    """Return the number of cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_any_flag(flags: set[str]) -> bool:
    """Return whether the kernel lists one of some features of the processor."""
    try:
        return not flags.isdisjoint(_CPUINFO.read_text().split())
    except OSError:
        return False

"""What the processor can do."""

from __future__ import annotations

import os
from pathlib import Path

_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's
_VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}
_CPUINFO = Path("/proc/cpuinfo")  # Linux's; other systems are taken to have neither, which is slower and never wrong


def has_vnni() -> bool:
    """Whether the processor adds products of int8 in 32 bits."""
    return _has_any_flag(_VNNI_FLAGS)


def has_bf16() -> bool:
    """Whether the processor multiplies in bfloat16; one that does not emulates it, many times slower than float32."""
    return _has_any_flag(_BF16_FLAGS)


def usable_cores() -> int:
    """Of this process, which may be given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_any_flag(flags: set[str]) -> bool:
    try:
        return not flags.isdisjoint(_CPUINFO.read_text().split())
    except OSError:
        return False

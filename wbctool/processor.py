"""What the processor can do."""

from __future__ import annotations

from pathlib import Path

_VNNI = {"avx512_vnni", "avx_vnni"}
_FLAGS = Path("/proc/cpuinfo")  # Linux's; other systems are taken to have no VNNI, which is slower and never wrong


def has_vnni() -> bool:
    """Whether the processor adds products of int8 in 32 bits."""
    try:
        return not _VNNI.isdisjoint(_FLAGS.read_text().split())
    except OSError:
        return False

"""Whole processes, measured, and the machine that they ran on."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.cli.doctor import RUNTIMES, check_package
from wbctool.enums import Device
from wbctool.inference.session import CPU, CUDA


@dataclass(frozen=True, slots=True)
class ProcessMeasurement:
    """One process.

    Attributes:
        seconds: Wall-clock seconds of the whole process; of (c'), only of the models.
        cpu_s: The processor's seconds, of all cores.
        peak_mb: Peak resident memory in megabytes.
        cells: Cells classified.
    """

    seconds: float
    cpu_s: float
    peak_mb: float
    cells: int


def run_wbctool(
    work_dir: Path,
    slides: Path,
    precision: str,
    options: Sequence[str] = (),
    prepare: Callable[[], None] | None = None,
) -> ProcessMeasurement:
    """Measure a whole run with a new output folder.

    Args:
        work_dir: Where the output goes.
        slides: The slides.
        precision: A value of `wbctool run --precision`.
        options: Further options of `wbctool run`.
        prepare: Called before Python starts, as of time_process.
    """
    out = work_dir / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = ["-m", "wbctool", "run", str(slides), "--out", str(out / "counts.csv"), "--precision", precision]
    seconds, cpu_s, peak_mb, _ = time_process([*command, "--quiet", *options], prepare)
    slides_done = json.loads((out / "counts" / "run.json").read_text())["slides"]
    return ProcessMeasurement(seconds, cpu_s, peak_mb, sum(int(slide["cells"]) for slide in slides_done))


def time_process(
    arguments: Sequence[str], prepare: Callable[[], None] | None = None
) -> tuple[float, float, float, str]:
    """Run Python in a new process.

    Args:
        arguments: The interpreter's arguments.
        prepare: Called in the process before Python starts, as to limit it.

    Returns:
        Wall-clock seconds, the processor's seconds, peak resident megabytes and standard output.

    Raises:
        SystemExit: The process failed.
    """
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=prepare)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output


def describe_machine(device: Device) -> str:
    """Describe processor, execution provider and versions.

    Args:
        device: Where the models ran.
    """
    packages = [check_package(name) for name in (*RUNTIMES, "opencv-python-headless")]
    libraries = ", ".join(f"{package.name} {package.detail}" for package in packages if package.ok)
    provider = CPU if device is Device.CPU else CUDA
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {provider}"
    return f"{cores}, Python {platform.python_version()}, {libraries}"

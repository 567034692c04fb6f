"""`make bench`: wbctool beside the pipeline one would write oneself, and beside the least that naming the cells costs.

Every measurement is a fresh process on the same copies of the demo's fields; the ways take turns, and medians are
printed, with the ratios to (a):

(a) `wbctool run`, start to end, reports and all
(b) benchmarks.plain: OpenCV and PyTorch, 32 cells at a time and one at a time
(c) benchmarks.floor: ONNX Runtime alone, on cells that were found and cut before

int8, or with --device cuda fp16, where `wbctool models optimize` made copies. The table goes to benchmarks/results/,
with the machine and versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from wbctool.cards import ClassifierCard, copy_path, default_models_dir
from wbctool.choices import Device, Precision
from wbctool.onnx_model import CPU, CUDA

DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
RESULTS = Path(__file__).parent / "results"
_FIELDS_A_SLIDE = 25


@dataclass(frozen=True, slots=True)
class Measured:
    """One process. seconds: of the whole; of the floor, its own. peak_mb: resident."""

    seconds: float
    peak_mb: float
    cells: int
    note: str = ""


def main() -> None:
    """Read the options, measure, print and write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fields", type=int, default=300)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--device", type=Device, choices=[Device.CPU, Device.CUDA], default=Device.CPU)
    options.add_argument("--growth", type=int, nargs="*", default=[], help="also (a) once on so many fields each")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        copy_fields(work / "slides", chosen.fields)
        rounds: dict[str, list[Measured]] = defaultdict(list)
        for _ in range(chosen.runs):
            for name, measured in one_round(work, chosen.device):
                rounds[name].append(measured)
        grown = []
        for fields in chosen.growth:
            copy_fields(work / f"slides-{fields}", fields)
            grown.append((fields, wbctool_run(work, work / f"slides-{fields}", "auto", chosen.device)))
    text = as_markdown(rounds, chosen.fields, chosen.device, grown)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    on = "" if chosen.device is Device.CPU else f"-{chosen.device}"
    (RESULTS / f"{chosen.fields}-fields{on}.md").write_text(text, encoding="utf-8")


def one_round(work: Path, device: Device) -> Iterator[tuple[str, Measured]]:
    """Each way once."""
    slides = work / "slides"
    for precision in precisions(device):
        yield f"(a) wbctool, {precision}", wbctool_run(work, slides, precision, device)
        yield f"(c) ONNX Runtime alone, {precision}", floor(slides, precision, device)
    for batch in (32, 1):
        command = ["-m", "benchmarks.plain", str(slides), str(work / "plain.csv"), "--batch", str(batch)]
        command += ["--device", device]
        seconds, peak_mb, _ = timed_process(command)
        rows = (work / "plain.csv").read_text().splitlines()[1:]
        cells = sum(int(value) for row in rows for value in row.split(",")[1:])
        yield f"(b) OpenCV and PyTorch, {batch} cells at a time", Measured(seconds, peak_mb, cells)


def precisions(device: Device) -> list[Precision]:
    """fp32, and int8 on a CPU or fp16 on a GPU where there is such a copy."""
    fastest = Precision.INT8 if device is Device.CPU else Precision.FP16
    there = copy_path(default_models_dir(), ClassifierCard, fastest).is_file()
    return [Precision.FP32, fastest] if there else [Precision.FP32]


def wbctool_run(work: Path, slides: Path, precision: str, device: Device) -> Measured:
    """A whole run on a fresh output."""
    out = work / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = ["-m", "wbctool", "run", str(slides), "--out", str(out / "counts.csv"), "--precision", precision]
    seconds, peak_mb, _ = timed_process([*command, "--device", device, "--quiet"])
    slides_done = json.loads((out / "counts" / "run.json").read_text())["slides"]
    return Measured(seconds, peak_mb, sum(int(slide["cells"]) for slide in slides_done))


def floor(slides: Path, precision: str, device: Device) -> Measured:
    """The floor's own time; finding the cells is not in it."""
    command = ["-m", "benchmarks.floor", str(slides), "--precision", precision, "--device", device]
    _, peak_mb, output = timed_process(command)
    told = json.loads(output)
    return Measured(told["seconds"], peak_mb, told["cells"], told["how"])


def timed_process(arguments: Sequence[str]) -> tuple[float, float, str]:
    """(wall seconds, peak resident MB, standard output) of a Python process that must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
    return seconds, usage.ru_maxrss / 1024, output


def copy_fields(slides: Path, number: int) -> None:
    """``number`` fields in slides of 25: those of the demo's first two, over and over."""
    demo = sorted(DEMO.glob("slide-0[12]/*.jpg"))
    for index in range(number):
        target = slides / f"slide-{index // _FIELDS_A_SLIDE:04d}" / f"field-{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo[index % len(demo)], target)


def as_markdown(
    rounds: dict[str, list[Measured]], fields: int, device: Device, grown: Sequence[tuple[int, Measured]]
) -> str:
    """The table, the ratios and the growth."""
    median = {name: statistics.median(m.seconds for m in measured) for name, measured in rounds.items()}
    lines = [
        f"{fields} fields of 640×480, {_machine(device)}; medians of {len(next(iter(rounds.values())))}",
        "",
        "| way | seconds (least to most) | ms a field | cells | cells/s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in sorted(rounds.items()):
        seconds, cells = median[name], measured[0].cells
        spread = f"{min(m.seconds for m in measured):.1f} to {max(m.seconds for m in measured):.1f}"
        note = f": {measured[-1].note}" if measured[-1].note else ""
        lines.append(
            f"| {name}{note} | {seconds:.2f} ({spread}) | {1000 * seconds / fields:.1f} | {cells} | "
            f"{cells / seconds:.1f} | {max(m.peak_mb for m in measured):.0f} |"
        )
    lines.append("")
    for name in sorted(median):
        if name.startswith("(a)"):
            precision = name.rsplit(" ", 1)[1]
            batched, least = "(b) OpenCV and PyTorch, 32 cells at a time", f"(c) ONNX Runtime alone, {precision}"
            lines.append(
                f"{name}: {median[batched] / median[name]:.2f} times faster than (b) batched, "
                f"{median[name] / median[least]:.2f} times the floor (c)"
            )
    if grown:
        lines += ["", "| fields | seconds, (a), once | ms a field | peak MB |", "|---|---|---|---|"]
        lines += [f"| {n} | {m.seconds:.1f} | {1000 * m.seconds / n:.1f} | {m.peak_mb:.0f} |" for n, m in grown]
    return "\n".join(lines) + "\n"


def _machine(device: Device) -> str:
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime-gpu", "torch", "opencv-python-headless"))
    provider = CPU if device is Device.CPU else CUDA
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {provider}"
    return f"{cores}, Python {platform.python_version()}, {libraries}"


if __name__ == "__main__":
    main()

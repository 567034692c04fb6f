"""`make bench`: wbctool compared with a straightforward PyTorch pipeline and with ONNX Runtime alone.

Every measurement is a fresh process on the same copies of the demo's fields. The candidates take turns; medians are
printed, with the ratios to (a):

(a) `wbctool run`, from start to end, including reports
(b) benchmarks.pytorch_baseline: OpenCV and PyTorch, 32 cells at a time and one at a time
(c) benchmarks.onnxruntime_only: ONNX Runtime alone, on cells detected and cropped before

Also in int8, or with --device cuda in fp16, if `wbctool models optimize` made copies. The table goes to
benchmarks/results/, with the machine and versions.
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

from wbctool.enums import Device, Precision
from wbctool.inference.model_card import ClassifierCard, default_models_dir, quantized_card_path
from wbctool.inference.session import CPU, CUDA

DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
RESULTS = Path(__file__).parent / "results"
_FIELDS_A_SLIDE = 25


@dataclass(frozen=True, slots=True)
class ProcessMeasurement:
    """One process.

    Attributes:
        seconds: Of the whole process; of (c), only of the classifier.
        peak_mb: Peak resident memory in megabytes.
        cells: Cells classified.
        note: Shown in the table.
    """

    seconds: float
    peak_mb: float
    cells: int
    note: str = ""


def main() -> None:
    """Parse the options, measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", type=Device, choices=[Device.CPU, Device.CUDA], default=Device.CPU)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[], help="also time (a) once for each number of fields"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        copy_fields(work_dir / "slides", args.fields)
        rounds: dict[str, list[ProcessMeasurement]] = defaultdict(list)
        for _ in range(args.runs):
            for name, measured in run_round(work_dir, args.device):
                rounds[name].append(measured)
        growth = []
        for fields in args.growth:
            copy_fields(work_dir / f"slides-{fields}", fields)
            growth.append((fields, run_wbctool(work_dir, work_dir / f"slides-{fields}", "auto", args.device)))
    text = format_markdown(rounds, args.fields, args.device, growth)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    suffix = "" if args.device is Device.CPU else f"-{args.device}"
    (RESULTS / f"{args.fields}-fields{suffix}.md").write_text(text, encoding="utf-8")


def run_round(work_dir: Path, device: Device) -> Iterator[tuple[str, ProcessMeasurement]]:
    """Measure each candidate once.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        device: Where the models run.

    Yields:
        The candidate's name and its measurement.
    """
    slides = work_dir / "slides"
    for precision in list_precisions(device):
        yield f"(a) wbctool, {precision}", run_wbctool(work_dir, slides, precision, device)
        yield f"(c) ONNX Runtime alone, {precision}", run_onnxruntime_only(slides, precision, device)
    for batch in (32, 1):
        command = [
            "-m",
            "benchmarks.pytorch_baseline",
            str(slides),
            str(work_dir / "baseline.csv"),
            "--batch",
            str(batch),
        ]
        command += ["--device", device]
        seconds, peak_mb, _ = time_process(command)
        rows = (work_dir / "baseline.csv").read_text().splitlines()[1:]
        cells = sum(int(value) for row in rows for value in row.split(",")[1:])
        yield f"(b) OpenCV and PyTorch, {batch} cells at a time", ProcessMeasurement(seconds, peak_mb, cells)


def list_precisions(device: Device) -> list[Precision]:
    """Return fp32 and, if there is such a copy, int8 for a CPU or fp16 for a GPU.

    Args:
        device: Where the models run.
    """
    fastest = Precision.INT8 if device is Device.CPU else Precision.FP16
    is_available = quantized_card_path(default_models_dir(), ClassifierCard, fastest).is_file()
    return [Precision.FP32, fastest] if is_available else [Precision.FP32]


def run_wbctool(work_dir: Path, slides: Path, precision: str, device: Device) -> ProcessMeasurement:
    """Measure a whole run with a new output folder.

    Args:
        work_dir: Where the output goes.
        slides: The slides.
        precision: As `wbctool run --precision`.
        device: As `wbctool run --device`.
    """
    out = work_dir / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = ["-m", "wbctool", "run", str(slides), "--out", str(out / "counts.csv"), "--precision", precision]
    seconds, peak_mb, _ = time_process([*command, "--device", device, "--quiet"])
    slides_done = json.loads((out / "counts" / "run.json").read_text())["slides"]
    return ProcessMeasurement(seconds, peak_mb, sum(int(slide["cells"]) for slide in slides_done))


def run_onnxruntime_only(slides: Path, precision: str, device: Device) -> ProcessMeasurement:
    """Measure the classifier alone, without the detection.

    Args:
        slides: The slides.
        precision: Of the classifier.
        device: Where it runs.
    """
    command = ["-m", "benchmarks.onnxruntime_only", str(slides), "--precision", precision, "--device", device]
    _, peak_mb, output = time_process(command)
    result = json.loads(output)
    return ProcessMeasurement(result["seconds"], peak_mb, result["cells"], result["description"])


def time_process(arguments: Sequence[str]) -> tuple[float, float, str]:
    """Run Python in a new process.

    Args:
        arguments: Of the interpreter.

    Returns:
        Wall-clock seconds, peak resident megabytes and standard output.

    Raises:
        SystemExit: The process failed.
    """
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
    """Write slides of 25 fields, which are copies of the demo's first two slides in turn.

    Args:
        slides: Where they go.
        number: How many fields in all.
    """
    demo = sorted(DEMO.glob("slide-0[12]/*.jpg"))
    for index in range(number):
        target = slides / f"slide-{index // _FIELDS_A_SLIDE:04d}" / f"field-{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo[index % len(demo)], target)


def format_markdown(
    rounds: dict[str, list[ProcessMeasurement]],
    fields: int,
    device: Device,
    growth: Sequence[tuple[int, ProcessMeasurement]],
) -> str:
    """Format the results in Markdown: a table, the ratios and the growth with the number of fields.

    Args:
        rounds: Measurements by the candidate's name.
        fields: Number of fields.
        device: Where the models ran.
        growth: Number of fields and the measurement of (a), for each further number.
    """
    medians = {name: statistics.median(m.seconds for m in measured) for name, measured in rounds.items()}
    lines = [
        f"{fields} fields of 640×480, {_describe_machine(device)}; medians of {len(next(iter(rounds.values())))}",
        "",
        "| candidate | seconds (least to most) | ms a field | cells | cells/s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, measured in sorted(rounds.items()):
        seconds, cells = medians[name], measured[0].cells
        time_range = f"{min(m.seconds for m in measured):.1f} to {max(m.seconds for m in measured):.1f}"
        note = f": {measured[-1].note}" if measured[-1].note else ""
        lines.append(
            f"| {name}{note} | {seconds:.2f} ({time_range}) | {1000 * seconds / fields:.1f} | {cells} | "
            f"{cells / seconds:.1f} | {max(m.peak_mb for m in measured):.0f} |"
        )
    lines.append("")
    for name in sorted(medians):
        if name.startswith("(a)"):
            precision = name.rsplit(" ", 1)[1]
            baseline, lower_bound = "(b) OpenCV and PyTorch, 32 cells at a time", f"(c) ONNX Runtime alone, {precision}"
            lines.append(
                f"{name}: {medians[baseline] / medians[name]:.2f} times faster than (b) batched, "
                f"{medians[name] / medians[lower_bound]:.2f} times the time of (c)"
            )
    if growth:
        lines += ["", "| fields | seconds, (a), once | ms a field | peak MB |", "|---|---|---|---|"]
        lines += [f"| {n} | {m.seconds:.1f} | {1000 * m.seconds / n:.1f} | {m.peak_mb:.0f} |" for n, m in growth]
    return "\n".join(lines) + "\n"


def _describe_machine(device: Device) -> str:
    """Describe processor, execution provider and versions."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime-gpu", "torch", "opencv-python-headless"))
    provider = CPU if device is Device.CPU else CUDA
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {provider}"
    return f"{cores}, Python {platform.python_version()}, {libraries}"


if __name__ == "__main__":
    main()

"""`make bench`: wbctool compared with the time that its models alone take, on fields of two sizes.

Every measurement is a fresh process on the same copies of the demo's fields, as they are and at a quarter of their side
(``low-power``), where the generator works. The candidates take turns; medians are printed:

(a) `wbctool run`, from start to end, including reports
(c') benchmarks.onnxruntime_only: ONNX Runtime running detector, generator and both classifiers on ready arrays
(b) with --baseline, benchmarks.pytorch_baseline: OpenCV and PyTorch, 32 cells at a time and one at a time

Also in int8, or with --device cuda in fp16, if `wbctool models optimize` made copies. After the first round no round
begins that would not end within --minutes. The tables go to benchmarks/results/, with the machine and versions.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import cv2

from wbctool.enums import Device, Precision
from wbctool.inference.model_card import ClassifierCard, default_models_dir, quantized_card_path
from wbctool.inference.session import CPU, CUDA

DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
RESULTS = Path(__file__).parent / "results"
_FIELDS_A_SLIDE = 16  # as many as the demo has, since the cells of repeated fields would be counted once
_LOW_POWER_DIVISOR = 4
_JPEG_QUALITY = 95
_FLOOR = "(c') ONNX Runtime alone"


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


def main() -> None:
    """Parse the options, measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5, help="the most rounds of each size of fields")
    parser.add_argument(
        "--minutes", type=float, default=10, help="for the rounds of both sizes; one round is made anyway"
    )
    parser.add_argument("--baseline", action="store_true", help="also time (b), which takes minutes on a slow machine")
    parser.add_argument("--device", type=Device, choices=[Device.CPU, Device.CUDA], default=Device.CPU)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[], help="also time (a) once for each number of fields"
    )
    args = parser.parse_args()
    sizes = {"": 1, "low-power": _LOW_POWER_DIVISOR}
    for name, divisor in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            work_dir = Path(folder)
            copy_fields(work_dir / "slides", args.fields, divisor)
            baseline = args.baseline and divisor == 1  # it resamples small cells, so the times would not compare
            rounds = run_rounds(work_dir, args.device, args.runs, 60 * args.minutes / len(sizes), baseline)
            growth = []
            for fields in args.growth if divisor == 1 else []:
                copy_fields(work_dir / f"slides-{fields}", fields)
                growth.append((fields, run_wbctool(work_dir, work_dir / f"slides-{fields}", "auto", args.device)))
        text = format_markdown(rounds, args.fields, divisor, args.device, growth)
        print(text, flush=True)
        RESULTS.mkdir(exist_ok=True)
        suffix = "".join(f"-{part}" for part in (name, "" if args.device is Device.CPU else args.device.value) if part)
        (RESULTS / f"{args.fields}-fields{suffix}.md").write_text(text, encoding="utf-8")


def run_rounds(
    work_dir: Path, device: Device, max_rounds: int, limit_s: float, baseline: bool
) -> dict[str, list[ProcessMeasurement]]:
    """Measure each candidate in turn, as often as the time allows, and at least once.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        device: Where the models run.
        max_rounds: The most rounds.
        limit_s: No round begins that would end later, if it takes as long as the one before.
        baseline: Whether to measure (b).

    Returns:
        Measurements by the candidate's name.
    """
    rounds: dict[str, list[ProcessMeasurement]] = defaultdict(list)
    start, round_s = time.perf_counter(), 0.0
    for index in range(max_rounds):
        round_start = time.perf_counter()
        if index and round_start - start + round_s > limit_s:
            break
        for name, measured in run_round(work_dir, device, baseline):
            rounds[name].append(measured)
        round_s = time.perf_counter() - round_start
    return rounds


def run_round(work_dir: Path, device: Device, baseline: bool) -> Iterator[tuple[str, ProcessMeasurement]]:
    """Measure each candidate once.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        device: Where the models run.
        baseline: Whether to measure (b).

    Yields:
        The candidate's name and its measurement.
    """
    slides = work_dir / "slides"
    for precision in list_precisions(device):
        yield f"(a) wbctool, {precision}", run_wbctool(work_dir, slides, precision, device)
        yield f"{_FLOOR}, {precision}", run_onnxruntime_only(slides, precision, device)
    for batch in (32, 1) if baseline else ():
        out = work_dir / "baseline.csv"
        options = ["--batch", str(batch), "--device", device]
        seconds, cpu_s, peak_mb, _ = time_process(
            ["-m", "benchmarks.pytorch_baseline", str(slides), str(out), *options]
        )
        rows = out.read_text().splitlines()[1:]
        cells = sum(int(value) for row in rows for value in row.split(",")[1:])
        yield f"(b) OpenCV and PyTorch, {batch} cells at a time", ProcessMeasurement(seconds, cpu_s, peak_mb, cells)


def list_precisions(device: Device) -> list[Precision]:
    """Return fp32 and, if there is such a copy, int8 for a CPU or fp16 for a GPU.

    Args:
        device: Where the models run.
    """
    fastest = Precision.INT8 if device is Device.CPU else Precision.FP16
    is_available = quantized_card_path(default_models_dir(), ClassifierCard, fastest).is_file()
    return [Precision.FP32, fastest] if is_available else [Precision.FP32]


def run_wbctool(
    work_dir: Path,
    slides: Path,
    precision: str,
    device: Device,
    options: Sequence[str] = (),
    prepare: Callable[[], None] | None = None,
) -> ProcessMeasurement:
    """Measure a whole run with a new output folder.

    Args:
        work_dir: Where the output goes.
        slides: The slides.
        precision: As `wbctool run --precision`.
        device: As `wbctool run --device`.
        options: Further options of `wbctool run`.
        prepare: As of time_process.
    """
    out = work_dir / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = ["-m", "wbctool", "run", str(slides), "--out", str(out / "counts.csv"), "--precision", precision]
    seconds, cpu_s, peak_mb, _ = time_process([*command, "--device", device, "--quiet", *options], prepare)
    slides_done = json.loads((out / "counts" / "run.json").read_text())["slides"]
    return ProcessMeasurement(seconds, cpu_s, peak_mb, sum(int(slide["cells"]) for slide in slides_done))


def run_onnxruntime_only(slides: Path, precision: str, device: Device) -> ProcessMeasurement:
    """Measure the models alone.

    Args:
        slides: The slides.
        precision: Of the models.
        device: Where they run.
    """
    command = ["-m", "benchmarks.onnxruntime_only", str(slides), "--precision", precision, "--device", device]
    *_, peak_mb, output = time_process(command)
    result = json.loads(output)
    return ProcessMeasurement(result["seconds"], result["cpu_seconds"], peak_mb, result["cells"])


def time_process(
    arguments: Sequence[str], prepare: Callable[[], None] | None = None
) -> tuple[float, float, float, str]:
    """Run Python in a new process.

    Args:
        arguments: Of the interpreter.
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


def copy_fields(slides: Path, number: int, divisor: int = 1) -> None:
    """Write slides of 25 fields, which are copies of the demo's first two slides in turn.

    Args:
        slides: Where they go.
        number: How many fields in all.
        divisor: The side of a demo's field over that of its copy.
    """
    demo = [read_jpeg(path, divisor) for path in sorted(DEMO.glob("slide-0[12]/*.jpg"))]
    for index in range(number):
        target = slides / f"slide-{index // _FIELDS_A_SLIDE:04d}" / f"field-{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(demo[index % len(demo)])


def read_jpeg(path: Path, divisor: int) -> bytes:
    """Return a JPEG file: the same bytes or, with a divisor above 1, the image reduced by area."""
    if divisor == 1:
        return path.read_bytes()
    image = cv2.imread(str(path))
    assert image is not None
    size = image.shape[1] // divisor, image.shape[0] // divisor
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", reduced, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def format_markdown(
    rounds: dict[str, list[ProcessMeasurement]],
    fields: int,
    divisor: int,
    device: Device,
    growth: Sequence[tuple[int, ProcessMeasurement]],
) -> str:
    """Format the results in Markdown: a table, the ratios and the growth with the number of fields.

    Args:
        rounds: Measurements by the candidate's name.
        fields: Number of fields.
        divisor: As of copy_fields.
        device: Where the models ran.
        growth: Number of fields and the measurement of (a), for each further number.
    """
    medians = {name: statistics.median(m.seconds for m in measured) for name, measured in rounds.items()}
    size = f"{640 // divisor}×{480 // divisor}"
    lines = [
        f"{fields} fields of {size}, {describe_machine(device)}; medians of {len(next(iter(rounds.values())))}",
        "",
        "| candidate | seconds (least to most) | processor's seconds | ms a field | cells | cells/s | peak MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, measured in sorted(rounds.items()):
        seconds, cells = medians[name], measured[0].cells
        cpu_s = statistics.median(m.cpu_s for m in measured)
        time_range = f"{min(m.seconds for m in measured):.1f} to {max(m.seconds for m in measured):.1f}"
        lines.append(
            f"| {name} | {seconds:.2f} ({time_range}) | {cpu_s:.2f} | {1000 * seconds / fields:.1f} | {cells} | "
            f"{cells / seconds:.1f} | {max(m.peak_mb for m in measured):.0f} |"
        )
    lines.append("")
    for name in sorted(medians):
        if name.startswith("(a)"):
            precision = name.rsplit(" ", 1)[1]
            lines.append(f"{name}: {medians[name] / medians[f'{_FLOOR}, {precision}']:.2f} times the floor (c')")
    if growth:
        lines += ["", "| fields | seconds, (a), once | ms a field | peak MB |", "|---|---|---|---|"]
        lines += [f"| {n} | {m.seconds:.1f} | {1000 * m.seconds / n:.1f} | {m.peak_mb:.0f} |" for n, m in growth]
    return "\n".join(lines) + "\n"


def describe_machine(device: Device) -> str:
    """Describe processor, execution provider and versions.

    Args:
        device: Where the models ran.
    """
    libraries = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime-gpu", "opencv-python-headless"))
    provider = CPU if device is Device.CPU else CUDA
    cores = f"{platform.machine()}, {os.cpu_count()} cores, {provider}"
    return f"{cores}, Python {platform.python_version()}, {libraries}"


if __name__ == "__main__":
    main()

"""`make bench`: wbctool compared with the time that its models alone take, on fields of two sizes.

Every measurement is a fresh process on the same copies of the demo's fields, as they are and at a quarter of their side
(``low-power``), where the generator works. The candidates take turns; medians are printed:

(a) `wbctool run`, from start to end, including reports
(c') benchmarks.onnxruntime_only: ONNX Runtime running detector, generator and both classifiers on ready arrays
(b) with --baseline, benchmarks.pytorch_baseline: OpenCV and PyTorch, 32 cells at a time and one at a time

Also in int8, or with --device cuda in fp16, if `wbctool models optimize` made copies; --models DIR takes those of its
--out. After the first round no round begins that would not end within --minutes. The tables go to benchmarks/results/,
with the machine and versions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.demo_fields import copy_fields
from benchmarks.processes import ProcessMeasurement, describe_machine, run_wbctool, time_process
from wbctool.enums import Device, Precision, Readers
from wbctool.inference.model_card import ClassifierCard, CompactCard, default_models_dir, quantized_card_path

RESULTS = Path(__file__).parent / "results"
_DIVISORS = {"full": 1, "low-power": 4}  # of the fields' side
_CARDS = {Readers.VGG19: ClassifierCard, Readers.COMPACT: CompactCard}
_FLOOR = "(c') ONNX Runtime alone"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What all candidates have in common.

    Attributes:
        device: Where the models run.
        models: The folder of the models.
        readers: Which networks classify the cells.
    """

    device: Device = Device.CPU
    models: Path = field(default_factory=default_models_dir)
    readers: Readers = Readers.BOTH

    @property
    def options(self) -> tuple[str, ...]:
        """The options of `wbctool run` and of benchmarks.onnxruntime_only for it."""
        return ("--device", self.device, "--models", str(self.models), "--readers", self.readers)


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
    parser.add_argument("--models", type=Path, default=default_models_dir(), help="default: the shipped models")
    parser.add_argument("--readers", type=Readers, choices=list(Readers), default=Readers.BOTH)
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[], help="also time (a) once for each number of fields"
    )
    parser.add_argument("--sizes", nargs="+", choices=_DIVISORS, default=list(_DIVISORS), help="of the fields")
    args = parser.parse_args()
    configuration = Configuration(args.device, args.models, args.readers)
    if args.baseline and configuration != Configuration(args.device):
        parser.error("--baseline is a pipeline of the shipped VGG19: leave --models and --readers out")
    for size in args.sizes:
        divisor = _DIVISORS[size]
        with tempfile.TemporaryDirectory() as folder:
            work_dir = Path(folder)
            copy_fields(work_dir / "slides", args.fields, divisor)
            baseline = args.baseline and divisor == 1  # it resamples small cells, so the times would not compare
            rounds = run_rounds(work_dir, configuration, args.runs, 60 * args.minutes / len(args.sizes), baseline)
            growth = []
            for fields in args.growth if divisor == 1 else []:
                copy_fields(work_dir / f"slides-{fields}", fields)
                slides, precision = work_dir / f"slides-{fields}", list_precisions(configuration)[-1]
                growth.append((fields, run_wbctool(work_dir, slides, precision, configuration.options)))
        text = format_markdown(rounds, args.fields, divisor, configuration, growth)
        print(text, flush=True)
        RESULTS.mkdir(exist_ok=True)
        parts = ([] if divisor == 1 else [size]) + ([] if args.device is Device.CPU else [args.device.value])
        parts += [] if args.readers is Readers.BOTH else [args.readers.value]
        parts += [] if args.models == default_models_dir() else [args.models.name]
        suffix = "".join(f"-{part}" for part in parts)
        (RESULTS / f"{args.fields}-fields{suffix}.md").write_text(text, encoding="utf-8")


def run_rounds(
    work_dir: Path, configuration: Configuration, max_rounds: int, limit_s: float, baseline: bool
) -> dict[str, list[ProcessMeasurement]]:
    """Measure each candidate in turn, as often as the time allows, and at least once.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        configuration: What all candidates have in common.
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
        for name, measured in run_round(work_dir, configuration, baseline):
            rounds[name].append(measured)
        round_s = time.perf_counter() - round_start
    return rounds


def run_round(work_dir: Path, configuration: Configuration, baseline: bool) -> Iterator[tuple[str, ProcessMeasurement]]:
    """Measure each candidate once.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        configuration: What all candidates have in common.
        baseline: Whether to measure (b).

    Yields:
        The candidate's name and its measurement.
    """
    slides = work_dir / "slides"
    for precision in list_precisions(configuration):
        yield f"(a) wbctool, {precision}", run_wbctool(work_dir, slides, precision, configuration.options)
        yield f"{_FLOOR}, {precision}", run_onnxruntime_only(slides, precision, configuration)
    for batch in (32, 1) if baseline else ():
        out = work_dir / "baseline.csv"
        options = ["--batch", str(batch), "--device", configuration.device]
        seconds, cpu_s, peak_mb, _ = time_process(
            ["-m", "benchmarks.pytorch_baseline", str(slides), str(out), *options]
        )
        rows = out.read_text().splitlines()[1:]
        cells = sum(int(value) for row in rows for value in row.split(",")[1:])
        yield f"(b) OpenCV and PyTorch, {batch} cells at a time", ProcessMeasurement(seconds, cpu_s, peak_mb, cells)


def list_precisions(configuration: Configuration) -> list[Precision]:
    """Return fp32 and, if there is such a copy, int8 for a CPU or fp16 for a GPU.

    Args:
        configuration: Which models, and where they run.
    """
    fastest = Precision.INT8 if configuration.device is Device.CPU else Precision.FP16
    kinds = [card for reader, card in _CARDS.items() if configuration.readers in {reader, Readers.BOTH}]
    is_available = any(quantized_card_path(configuration.models, kind, fastest).is_file() for kind in kinds)
    return [Precision.FP32, fastest] if is_available else [Precision.FP32]


def run_onnxruntime_only(slides: Path, precision: str, configuration: Configuration) -> ProcessMeasurement:
    """Measure the models alone.

    Args:
        slides: The slides.
        precision: The precision of the models.
        configuration: Which models, and where they run.
    """
    command = ["-m", "benchmarks.onnxruntime_only", str(slides), "--precision", precision]
    *_, peak_mb, output = time_process([*command, *configuration.options])
    result = json.loads(output)
    return ProcessMeasurement(result["seconds"], result["cpu_seconds"], peak_mb, result["cells"])


def format_markdown(
    rounds: dict[str, list[ProcessMeasurement]],
    fields: int,
    divisor: int,
    configuration: Configuration,
    growth: Sequence[tuple[int, ProcessMeasurement]],
) -> str:
    """Format the results in Markdown: a table, the ratios and the growth with the number of fields.

    Args:
        rounds: Measurements by the candidate's name.
        fields: Number of fields.
        divisor: The divisor of copy_fields.
        configuration: What all candidates have in common.
        growth: Number of fields and the measurement of (a) in the fastest precision, for each further number.
    """
    medians = {name: statistics.median(m.seconds for m in measured) for name, measured in rounds.items()}
    size = f"{640 // divisor}×{480 // divisor}"
    lines = [
        f"{fields} fields of {size}, models: {configuration.models.name}, readers: {configuration.readers}, "
        f"{describe_machine(configuration.device)}; "
        f"medians of {len(next(iter(rounds.values())))}",
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


if __name__ == "__main__":
    main()

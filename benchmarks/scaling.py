"""`python -m benchmarks.scaling`: how `wbctool run` gains from more workers on this machine.

The same copies of the demo's fields are processed with 1, 2 and 4 threads (``--workers``), and by 1, 2 and 4 workers of
one thread each of a local Dask cluster (``--scheduler``), which are processes that load the models for themselves. The
workers are started and the run is timed from start to end, so loading the models counts. A slide is one worker's: for
the cluster give at least four slides a worker, which have 16 fields each. With ``--slides`` other slides are processed,
such as one whole-slide scan, whose zones go to all workers. On a quiet machine with at least as many cores as workers;
more workers than cores show only what they cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.demo_fields import copy_fields
from benchmarks.processes import ProcessMeasurement, describe_machine, run_wbctool
from wbctool.enums import Device, Precision, Readers
from wbctool.inference.model_card import default_models_dir

_NIGHT_SLIDES, _NIGHT_CELLS = 1000, 200  # of a laboratory's night, and a slide


@dataclass(frozen=True, slots=True)
class Row:
    """One run.

    Attributes:
        kind: ``threads`` or ``Dask``.
        workers: The number of workers.
        measured: The run; of a cluster the processor's time and the memory are the coordinator's.
    """

    kind: str
    workers: int
    measured: ProcessMeasurement


def main() -> None:
    """Parse the options, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=256)
    parser.add_argument("--slides", type=Path, metavar="DIR", help="in place of copies of the demo's fields")
    parser.add_argument("--readers", type=Readers, choices=list(Readers), default=Readers.BOTH)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--models", type=Path, default=default_models_dir(), help="default: the shipped models")
    parser.add_argument("--precision", type=Precision, default=Precision.AUTO)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        slides = args.slides or work_dir / "slides"
        if args.slides is None:
            copy_fields(slides, args.fields)
        options = ["--device", Device.CPU, "--models", str(args.models), "--readers", args.readers]
        rows = list(measure_scaling(work_dir, slides, args.workers, args.precision, options))
    name = f"{args.fields} fields of 640×480" if args.slides is None else args.slides.name
    print(f"{name}, readers: {args.readers}, {describe_machine(Device.CPU)}\n")
    print(format_table(rows))


def measure_scaling(
    work_dir: Path, slides: Path, workers: Sequence[int], precision: Precision, options: Sequence[str]
) -> Iterator[Row]:
    """Measure a run with each number of threads, then of Dask workers.

    Args:
        work_dir: Where the outputs go.
        slides: The slides.
        workers: The numbers of workers.
        precision: The precision of the models.
        options: Further options of `wbctool run`.

    Yields:
        A row for each run.
    """
    from distributed import LocalCluster

    for number in workers:
        by_threads = [*options, "--workers", str(number)]
        yield Row("threads", number, run_wbctool(work_dir, slides, precision, by_threads))
    for number in workers:
        with LocalCluster(n_workers=number, threads_per_worker=1, dashboard_address=None) as cluster:
            by_cluster = [*options, "--scheduler", cluster.scheduler_address]
            yield Row("Dask", number, run_wbctool(work_dir, slides, precision, by_cluster))


def format_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, with the gain over the first row of each kind.

    Args:
        rows: What was measured.
    """
    lines = [
        "| workers | seconds | cells | cells/s | times as fast | share of the ideal | "
        f"hours for {_NIGHT_SLIDES} slides of {_NIGHT_CELLS} cells |",
        "|---|---|---|---|---|---|---|",
    ]
    first = {row.kind: row for row in reversed(rows)}
    for row in rows:
        base, measured = first[row.kind], row.measured
        gain = base.measured.seconds / measured.seconds
        cells_per_s = measured.cells / measured.seconds
        hours = _NIGHT_SLIDES * _NIGHT_CELLS / cells_per_s / 3600
        lines.append(
            f"| {row.workers} {row.kind} | {measured.seconds:.1f} | {measured.cells} | {cells_per_s:.1f} | "
            f"{gain:.2f} | {100 * gain * base.workers / row.workers:.0f} % | {hours:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

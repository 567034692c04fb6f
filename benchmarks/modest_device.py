"""`python -m benchmarks.modest_device`: what a Raspberry-class machine would do, by one core and 1 GB of memory.

`wbctool run` on copies of the demo's fields, from start to end, with the compact reader alone, the VGG19 alone and
both, in fp32 and, if `wbctool models optimize` made copies of them, in int8. The process may use one core, one thread
in each library, and so much writable memory (``RLIMIT_DATA``: a limit of the address space would count what
onnxruntime reserves and never touches). Peak memory is the largest resident set. How right the readers are is measured
by `wbctool evaluate DATA --readers compact`.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.demo_fields import copy_fields
from benchmarks.processes import ProcessMeasurement, describe_machine, run_wbctool
from wbctool.enums import Device, Precision, Readers
from wbctool.inference.loading import select_cards
from wbctool.inference.model_card import CellClassifierCard, default_models_dir
from wbctool.inference.session import CPU

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_ORDER = (Readers.COMPACT, Readers.VGG19, Readers.BOTH)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        readers: Which networks classified the cells.
        precision: Their precision; of two that differ, the first reader's first.
        measured: The run.
        readers_mb: The size of these networks' files, in megabytes.
        models_mb: The same with detector and generator.
    """

    readers: Readers
    precision: str
    measured: ProcessMeasurement
    readers_mb: float
    models_mb: float


def main() -> None:
    """Parse the options, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=48)
    parser.add_argument("--models", type=Path, default=default_models_dir(), help="default: the shipped models")
    parser.add_argument("--memory-mb", type=int, default=1024)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        copy_fields(work_dir / "slides", args.fields)
        rows = list(measure_readers(work_dir, args.models, args.memory_mb))
    print(f"{args.fields} fields of 640×480, one core, {args.memory_mb} MB of writable memory; ", end="")
    print(f"{describe_machine(Device.CPU)}\n")
    print(format_table(rows))


def limit_process(memory_mb: int) -> None:
    """Limit this process to one core, one thread in each library, and some memory.

    Args:
        memory_mb: The limit of private writable memory, in megabytes.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    n_bytes = memory_mb * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (n_bytes, n_bytes))
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))


def measure_readers(work_dir: Path, models: Path, memory_mb: int) -> Iterator[Row]:
    """Measure a run with each reader alone and with both, in each precision that there is.

    Args:
        work_dir: Holds the folder ``slides``; outputs go there.
        models: The folder of the models.
        memory_mb: The most private writable memory of a run, in megabytes.

    Yields:
        A row for each.
    """
    for readers in _ORDER:
        for precision in (Precision.FP32, Precision.INT8):
            cards = list(
                select_cards(models, CPU, Precision.AUTO if precision is Precision.INT8 else precision, readers)
            )
            sizes_mb = {card.kind: (models / card.file).stat().st_size / 1e6 for card in cards}
            of_readers = [card for card in cards if isinstance(card, CellClassifierCard)]
            if all(card.precision is not precision for card in of_readers):
                continue
            label = " and ".join(dict.fromkeys(card.precision.value for card in of_readers))
            options = ["--device", "cpu", "--readers", readers, "--models", str(models), "--workers", "1"]
            limit = partial(limit_process, memory_mb)
            measured = run_wbctool(work_dir, work_dir / "slides", precision, options, limit)
            readers_mb = sum(sizes_mb[card.kind] for card in of_readers)
            yield Row(readers, label, measured, readers_mb, sum(sizes_mb.values()))


def format_table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table.

    Args:
        rows: What was measured.
    """
    lines = [
        "| readers | precision | cells | seconds | cells/s | peak MB | files of the readers, MB | of all models, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        measured = row.measured
        lines.append(
            f"| {row.readers} | {row.precision} | {measured.cells} | {measured.seconds:.1f} | "
            f"{measured.cells / measured.seconds:.1f} | {measured.peak_mb:.0f} | {row.readers_mb:.1f} | "
            f"{row.models_mb:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

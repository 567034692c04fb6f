"""`wbctool run`: many slides, unattended."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import get_exit_code, handle_errors
from wbctool.cli.options import ModelsDir, parse_file
from wbctool.cli.output import echo_optional
from wbctool.enums import Device, Precision, Readers, SuperResolve
from wbctool.errors import OutputLocked, OutputNotWritable
from wbctool.optional import require_extra
from wbctool.text import display_name

if TYPE_CHECKING:
    from wbctool.pipeline.bound_stages import BoundStages
    from wbctool.pipeline.run import StopRequest
    from wbctool.settings import RunSettings
    from wbctool.store.status import RunReport

log = logging.getLogger(__name__)

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def run(
    slides: Annotated[
        Path,
        typer.Argument(
            metavar="SLIDES",
            readable=False,
            help="Folder of slides, or one image or scan. A slide is a folder of images, or a scan.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="CSV",
            parser=parse_file,
            help="Table to write, x.csv, or x.xlsx for a workbook too. The other results go into the folder x beside "
            "it. A file that wbctool did not write is never replaced.",
        ),
    ],
    models_dir: ModelsDir = None,
    device: Annotated[Device | None, typer.Option(help="Where the models run. Default: auto.")] = None,
    super_resolve: Annotated[
        SuperResolve | None, typer.Option(help="Which cells the generator enlarges. Default: auto.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Precision of the models. Default: auto.")] = None,
    readers: Annotated[Readers | None, typer.Option(help="Which networks classify the cells. Default: both.")] = None,
    workers: Annotated[str | None, typer.Option(metavar="N", help="Worker threads. Default: one per core.")] = None,
    batch_size: Annotated[
        str | None, typer.Option(metavar="N", help="Cells classified together on a GPU. Default: 64.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file of settings. Options given here override it."),
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Process every slide again.")] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Process failed and partial slides again.")
    ] = None,
    redo_reviewed: Annotated[
        bool | None,
        typer.Option("--redo-reviewed", help="Process reviewed slides again too if the models have changed."),
    ] = None,
    settle_s: Annotated[
        float | None, typer.Option("--settle", metavar="SECONDS", help="Skip slides changed within the last SECONDS.")
    ] = None,
    follow_links: Annotated[
        bool | None, typer.Option("--follow-links", help="Follow symbolic links that lead out of SLIDES.")
    ] = None,
    max_failures: Annotated[
        str | None, typer.Option(metavar="N", help="Stop once N slides of this run are failed or partial.")
    ] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = None,
    quiet: Annotated[bool | None, typer.Option("--quiet", help="Print errors and notices only.")] = None,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=parse_file, help="Log to FILE, one JSON object per line.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=parse_file, help="Write metrics for Prometheus's textfile collector to FILE, x.prom."
        ),
    ] = None,
    cells: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Whole-slide scans: stop once N cells are counted; all: look at every zone. Default: 200.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Process the slides on this Dask scheduler's workers.")
    ] = None,
    adult: Annotated[
        bool | None,
        typer.Option("--adult", help="Treat slides without an age in slides.csv as adults: show reference ranges."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON: the run, and each slide's numbers, in place of lines.")
    ] = False,
) -> None:
    """Count the white cells on every slide in SLIDES.

    Exit codes: 0 done; 1 nothing usable could be written; 2 wrong usage; 3 at least one slide is failed or partial;
    4 no image found; 5 another run or a review is using the output; 130, 143 stopped.
    """
    with handle_errors():
        # NumPy reads it when it is first imported. BLAS threads that spin took an eighth of the time from the workers.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from wbctool.settings import load_settings

        options = {
            "slides": slides,
            "out": out,
            "models_dir": models_dir,
            "device": device,
            "super_resolve": super_resolve,
            "precision": precision,
            "readers": readers,
            "workers": workers,
            "batch_size": batch_size,
            "force": force,
            "retry_failed": retry_failed,
            "redo_reviewed": redo_reviewed,
            "settle_s": settle_s,
            "follow_links": follow_links,
            "max_failures": max_failures,
            "dry_run": dry_run,
            "quiet": quiet,
            "log_file": log_file,
            "metrics": metrics,
            "cells_per_scan": cells,
            "scheduler": scheduler,
            "adult": adult,
        }
        raise typer.Exit(run_with_settings(load_settings(options, config), as_json))


def run_with_settings(settings: RunSettings, as_json: bool = False) -> int:
    """Run, log how it started and ended, write the metrics, print the summary, and return the exit code.

    Raises:
        WbctoolError: The run could not begin or go on; it is logged and recorded for `wbctool status`.
    """
    from wbctool.cli.logging import configure_logging
    from wbctool.paths import OutputPaths
    from wbctool.pipeline.preflight import check_log_file, check_metrics

    output = OutputPaths.from_out(settings.out)
    if settings.log_file is not None and not settings.dry_run:
        check_log_file(output, settings.log_file, settings.metrics)
    if settings.metrics is not None and not settings.dry_run:
        check_metrics(output, settings.metrics)
    start = datetime.fromisoformat(datetime.now(UTC).isoformat(timespec="milliseconds"))  # as run.json has it
    with configure_logging(settings.quiet, None if settings.dry_run else settings.log_file):
        log.info("started: %s", sys.argv)
        try:
            code = _run_folder(settings, as_json)
        except BaseException as error:
            log.info("ended with exit code %d: %s", get_exit_code(error), error or type(error).__name__)
            if not isinstance(error, OutputLocked) and not settings.dry_run:  # a run reports on itself
                _record_early_failure(settings, start, get_exit_code(error), str(error) or type(error).__name__)
            raise
        log.info("ended with exit code %d", code)
        if not settings.dry_run:
            _write_metrics(settings, start, code)
    if not settings.dry_run:
        _print_summary(settings, as_json)
    return code


def _print_summary(settings: RunSettings, as_json: bool) -> None:
    """Say where the results are; with ``--json`` also what they are."""
    if as_json:
        from wbctool.paths import OutputPaths
        from wbctool.store.run_summary import format_run_summary

        echo_optional(format_run_summary(OutputPaths.from_out(settings.out)))
    elif not settings.quiet:
        from wbctool.paths import OutputPaths

        index = OutputPaths.from_out(settings.out).index_html
        echo_optional(f"{display_name(str(settings.out))} written; open {display_name(str(index))}")


def _run_folder(settings: RunSettings, as_json: bool) -> int:
    """Process the slides in this process or on a cluster, and return the exit code."""
    from wbctool.cli.progress import show_progress
    from wbctool.pipeline.executor import LocalExecutor
    from wbctool.pipeline.run import StopRequest, run_folder

    stop_request = StopRequest()
    with stop_on_signals(stop_request), show_progress(settings.quiet, settings.dry_run, as_json) as progress:
        if settings.scheduler is None:
            local = LocalExecutor(lambda: load_stages(settings))
            return run_folder(settings, local, sys.argv, progress, stop_request)
        with require_extra("cluster", "--scheduler"):
            from wbctool.cluster.executor import DaskExecutor

        with closing(DaskExecutor(settings, settings.scheduler, stop_request)) as executor:
            return run_folder(settings, executor, sys.argv, progress, stop_request)


def load_stages(settings: RunSettings) -> BoundStages:
    """Load the models of a run, and warn if ``auto`` falls back to another device."""
    import cv2

    import wbctool
    from wbctool.pipeline.bound_stages import bind_stages

    cv2.setNumThreads(1)  # the workers are threads enough
    _return_freed_memory()
    with ThreadPoolExecutor(1, thread_name_prefix="import") as executor:
        imported = executor.submit(import_module, "scipy.special")  # classification needs it next
        models = wbctool.load_models(
            settings.models_dir, settings.device, settings.precision, settings.readers, threads=1
        )
    imported.result()
    if models.device_message:
        log.warning("%s", models.device_message)
    if not models.detector.card.stain_reference:
        log.info(
            "the detector's card has no colors of its training fields, so stains are not compared "
            "(see `wbctool models stain-reference`)"
        )
    return bind_stages(models, settings)


def _return_freed_memory() -> None:
    """Let the C library give each freed block of a megabyte back to the system; nothing where it is not glibc."""
    # glibc raises that threshold to the largest block freed so far, up to 32 MB, and keeps what the models' files took.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_MMAP_THRESHOLD, 2**20)


@contextmanager
def stop_on_signals(stop_request: StopRequest) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask the run to stop; a second one ends the process as usual."""

    def request_stop(number: int, _frame: FrameType | None) -> None:
        stop_request.signal = number
        restore_handlers()

    def restore_handlers() -> None:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)

    previous_handlers = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore_handlers()


def _record_early_failure(settings: RunSettings, start: datetime, code: int, cause: str) -> None:
    """Record for `wbctool status` that a run ended before it could write run.json."""
    from wbctool.paths import OutputPaths
    from wbctool.store.status import save_failure

    if _read_report_since(settings, start) is None:
        save_failure(OutputPaths.from_out(settings.out), start, code, cause)
    _write_metrics(settings, start, code)


def _write_metrics(settings: RunSettings, start: datetime, code: int) -> None:
    """Write the metrics; if that fails, only log it: whoever watches them sees that they grow old."""
    if settings.metrics is None:
        return
    from wbctool.pipeline.prometheus import write_metrics

    try:
        write_metrics(settings.metrics, _read_report_since(settings, start), code)
    except OutputNotWritable as error:
        log.error("metrics not written: %s", error)  # noqa: TRY400


def _read_report_since(settings: RunSettings, start: datetime) -> RunReport | None:
    """Read the record of the run that started at ``start``; None if it left none."""
    from wbctool.paths import OutputPaths
    from wbctool.store.status import read_report_or_none

    report = read_report_or_none(OutputPaths.from_out(settings.out))
    return report if report and report.end and not report.failure and report.start >= start else None

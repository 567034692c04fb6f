"""What the commands do, once their options are read."""

from __future__ import annotations

import logging
import math
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from wbctool.cli.exit_codes import get_exit_code
from wbctool.cli.saying import echo, echo_optional
from wbctool.cli.terminal import configure_logging, show_progress
from wbctool.errors import OutputLocked, OutputNotWritable, SettingsInvalid, WbctoolError
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import ClassifierCard, default_models_dir
from wbctool.inference.model_folder import check_models, list_cards
from wbctool.paths import OutputPaths
from wbctool.pipeline.bound_stages import BoundStages, bind_stages
from wbctool.pipeline.preflight import check_log_file
from wbctool.pipeline.run import ExitCode, StopRequest, run_folder
from wbctool.settings import RunSettings, load_settings
from wbctool.store.status import RunPhase, RunReport, read_report, read_report_or_none, save_failure
from wbctool.store.status import format_status_json as report_json
from wbctool.store.status import format_status_text as report_text
from wbctool.text import display_name

log = logging.getLogger(__name__)


def run_command(flags: Mapping[str, Any], config: Path | None) -> int:
    """`wbctool run`; returns the exit code."""
    settings = load_settings(flags, config)
    if settings.log_file is not None and not settings.dry_run:
        check_log_file(OutputPaths(settings.out), settings.log_file)
    start = datetime.fromisoformat(datetime.now(UTC).isoformat(timespec="milliseconds"))  # as run.json has it
    with configure_logging(settings.quiet, None if settings.dry_run else settings.log_file):
        log.info("started: %s", sys.argv)
        try:
            code = _execute(settings)
        except BaseException as error:
            log.info("ended with exit code %d: %s", get_exit_code(error), error or type(error).__name__)
            if not isinstance(error, OutputLocked) and not settings.dry_run:  # else the other run tells of itself
                _record_early_failure(settings, start, get_exit_code(error), str(error) or type(error).__name__)
            raise
        log.info("ended with exit code %d", code)
        if not settings.dry_run:
            _write_metrics(settings, start, code)
    if not settings.quiet and not settings.dry_run:
        echo_optional(f"{display_name(str(settings.out))} written")
    return code


def _execute(settings: RunSettings) -> int:
    stop_request = StopRequest()
    with stop_on_signals(stop_request), show_progress(settings.quiet, settings.dry_run) as progress:
        if settings.scheduler is None:
            return run_folder(settings, lambda: load_stages(settings), sys.argv, progress, stop_request)
        from wbctool.cluster.executor import Cluster

        with closing(Cluster(settings, settings.scheduler, stop_request)) as cluster:
            return run_folder(settings, cluster.join, sys.argv, progress, stop_request, cluster)


def _record_early_failure(settings: RunSettings, start: datetime, code: int, cause: str) -> None:
    if _read_report_since(settings, start) is None:
        save_failure(OutputPaths(settings.out), start, code, cause)
    _write_metrics(settings, start, code)


def _write_metrics(settings: RunSettings, start: datetime, code: int) -> None:
    """A file that cannot be written costs the metrics, not the run; whoever watches them sees that they grow old."""
    if settings.metrics is None:
        return
    from wbctool.pipeline.prometheus import write_metrics

    try:
        write_metrics(settings.metrics, _read_report_since(settings, start), code)
    except OutputNotWritable as error:
        log.error("metrics not written: %s", error)  # noqa: TRY400


def _read_report_since(settings: RunSettings, start: datetime) -> RunReport | None:
    """The record of the run that started then; None where it left none."""
    report = read_report_or_none(OutputPaths(settings.out))
    return report if report and report.end and not report.failure and report.start >= start else None


def status_command(out: Path, as_json: bool, max_age_hours: float | None) -> int:
    """`wbctool status`; returns the exit code. Raises SettingsInvalid for an age that is none."""
    if max_age_hours is not None and not 0 <= max_age_hours < math.inf:  # not a number is not between either
        raise SettingsInvalid(f"--max-age: {max_age_hours:g} is not a number of hours")
    report = read_report(OutputPaths.from_path(out))
    echo(report_json(report) if as_json else report_text(report))
    age = datetime.now(UTC) - (report.end or report.start)
    if max_age_hours is not None and age.total_seconds() > max_age_hours * 3600:
        print(f"wbctool: no run has ended within the last {max_age_hours:g} hours", file=sys.stderr)
        return ExitCode.FATAL
    if report.phase is RunPhase.RUNNING:
        return ExitCode.DONE
    return ExitCode.FATAL if report.exit_code is None else report.exit_code


def load_stages(settings: RunSettings) -> BoundStages:
    """The stages with their models loaded, and a word on the device that ``auto`` fell back to."""
    import cv2

    cv2.setNumThreads(1)  # the workers are threads enough
    models = load_models(settings.models_dir or default_models_dir(), settings.device, settings.precision, threads=1)
    if models.device_message:
        log.warning("%s", models.device_message)
    if not models.detector.card.stain_reference:
        log.info("the detector's card has no training colours: stains are not compared (see `wbctool models colours`)")
    return bind_stages(models, settings)


@contextmanager
def stop_on_signals(stop_request: StopRequest) -> Iterator[None]:
    """SIGINT and SIGTERM ask to stop; a second one is not asked twice."""

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


def list_models_command(models_dir: Path | None) -> int:
    """`wbctool models list`; returns the exit code. A card that cannot be read costs its own line."""
    code = ExitCode.DONE
    for _, card in list_cards(models_dir or default_models_dir()):
        if isinstance(card, WbctoolError):
            print(f"wbctool: {display_name(str(card))}", file=sys.stderr)
            code = ExitCode.FATAL
            continue
        classes = f", classes: {', '.join(card.classes)}" if isinstance(card, ClassifierCard) else ""
        echo(f"{card.kind}: {card.name} {card.version}, {card.precision.value}, {card.file}{classes}")
    return code


def verify_models_command(models_dir: Path | None) -> int:
    """`wbctool models verify`; returns the exit code."""
    problems = 0
    for path, problem in check_models(models_dir or default_models_dir()):
        echo(f"{path.name}: {problem or 'ok'}")
        problems += problem is not None
    return 1 if problems else 0

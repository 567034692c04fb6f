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

from wbctool.batch.places import check_log_file
from wbctool.batch.run import ExitCode, StopRequest, run_folder
from wbctool.batch.stages import Stages, bind_stages
from wbctool.batch.status import RunPhase, RunReport, last_report, read_report, record_failure
from wbctool.batch.status import as_json as report_json
from wbctool.batch.status import as_text as report_text
from wbctool.cards import ClassifierCard, default_models_dir, listed_cards, verify_models
from wbctool.cli.exit_codes import exit_code_of
from wbctool.cli.saying import mention, say
from wbctool.cli.terminal import logging_set_up, shown_progress
from wbctool.errors import OutputLocked, OutputNotWritable, SettingsInvalid, WbctoolError
from wbctool.layout import OutputLayout, name_shown
from wbctool.models import load_models
from wbctool.settings import RunSettings, load_settings

log = logging.getLogger(__name__)


def run_command(flags: Mapping[str, Any], config: Path | None) -> int:
    """`wbctool run`; returns the exit code."""
    settings = load_settings(flags, config)
    if settings.log_file is not None and not settings.dry_run:
        check_log_file(OutputLayout(settings.out), settings.log_file)
    start = datetime.fromisoformat(datetime.now(UTC).isoformat(timespec="milliseconds"))  # as run.json has it
    with logging_set_up(settings.quiet, None if settings.dry_run else settings.log_file):
        log.info("started: %s", sys.argv)
        try:
            code = _run(settings)
        except BaseException as error:
            log.info("ended with exit code %d: %s", exit_code_of(error), error or type(error).__name__)
            if not isinstance(error, OutputLocked) and not settings.dry_run:  # else the other run tells of itself
                _leave_word(settings, start, exit_code_of(error), str(error) or type(error).__name__)
            raise
        log.info("ended with exit code %d", code)
        if not settings.dry_run:
            _write_metrics(settings, start, code)
    if not settings.quiet and not settings.dry_run:
        mention(f"{name_shown(str(settings.out))} written")
    return code


def _run(settings: RunSettings) -> int:
    stop = StopRequest()
    with stopping_on_signals(stop), shown_progress(settings.quiet, settings.dry_run) as progress:
        if settings.scheduler is None:
            return run_folder(settings, lambda: load_stages(settings), sys.argv, progress, stop)
        from wbctool.batch.cluster import Cluster

        with closing(Cluster(settings, settings.scheduler, stop)) as cluster:
            return run_folder(settings, cluster.join, sys.argv, progress, stop, cluster)


def _leave_word(settings: RunSettings, start: datetime, code: int, cause: str) -> None:
    if _report_since(settings, start) is None:
        record_failure(OutputLayout(settings.out), start, code, cause)
    _write_metrics(settings, start, code)


def _write_metrics(settings: RunSettings, start: datetime, code: int) -> None:
    """A file that cannot be written costs the metrics, not the run; whoever watches them sees that they grow old."""
    if settings.metrics is None:
        return
    from wbctool.batch.metrics import write_metrics

    try:
        write_metrics(settings.metrics, _report_since(settings, start), code)
    except OutputNotWritable as error:
        log.error("metrics not written: %s", error)  # noqa: TRY400


def _report_since(settings: RunSettings, start: datetime) -> RunReport | None:
    """The record of the run that started then; None where it left none."""
    report = last_report(OutputLayout(settings.out))
    return report if report and report.end and not report.failure and report.start >= start else None


def status_command(out: Path, as_json: bool, max_age_hours: float | None) -> int:
    """`wbctool status`; returns the exit code. Raises SettingsInvalid for an age that is none."""
    if max_age_hours is not None and not 0 <= max_age_hours < math.inf:  # not a number is not between either
        raise SettingsInvalid(f"--max-age: {max_age_hours:g} is not a number of hours")
    report = read_report(OutputLayout.of(out))
    say(report_json(report) if as_json else report_text(report))
    age = datetime.now(UTC) - (report.end or report.start)
    if max_age_hours is not None and age.total_seconds() > max_age_hours * 3600:
        print(f"wbctool: no run has ended within the last {max_age_hours:g} hours", file=sys.stderr)
        return ExitCode.FATAL
    if report.phase is RunPhase.RUNNING:
        return ExitCode.DONE
    return ExitCode.FATAL if report.exit_code is None else report.exit_code


def load_stages(settings: RunSettings) -> Stages:
    """The stages with their models loaded, and a word on the device that ``auto`` fell back to."""
    import cv2

    cv2.setNumThreads(1)  # the workers are threads enough
    models = load_models(settings.models_dir or default_models_dir(), settings.device, settings.precision, threads=1)
    if models.device_note:
        log.warning("%s", models.device_note)
    if not models.detector.card.colours:
        log.info("the detector's card has no training colours: stains are not compared (see `wbctool models colours`)")
    return bind_stages(models, settings)


@contextmanager
def stopping_on_signals(stop: StopRequest) -> Iterator[None]:
    """SIGINT and SIGTERM ask to stop; a second one is not asked twice."""

    def request(number: int, _frame: FrameType | None) -> None:
        stop.signal = number
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def list_models_command(models_dir: Path | None) -> int:
    """`wbctool models list`; returns the exit code. A card that cannot be read costs its own line."""
    code = ExitCode.DONE
    for _, card in listed_cards(models_dir or default_models_dir()):
        if isinstance(card, WbctoolError):
            print(f"wbctool: {name_shown(str(card))}", file=sys.stderr)
            code = ExitCode.FATAL
            continue
        classes = f", classes: {', '.join(card.classes)}" if isinstance(card, ClassifierCard) else ""
        say(f"{card.kind}: {card.name} {card.version}, {card.precision.value}, {card.file}{classes}")
    return code


def verify_models_command(models_dir: Path | None) -> int:
    """`wbctool models verify`; returns the exit code."""
    problems = 0
    for path, problem in verify_models(models_dir or default_models_dir()):
        say(f"{path.name}: {problem or 'ok'}")
        problems += problem is not None
    return 1 if problems else 0

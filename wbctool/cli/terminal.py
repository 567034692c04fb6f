"""How a run shows itself: progress on the terminal or a line a slide, errors on standard error, a log file."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wbctool.cli.saying import echo, echo_optional
from wbctool.errors import OutputNotWritable
from wbctool.pipeline.plan import Action, PlanItem
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.store.slide_record import SlideOutcome
from wbctool.text import display_name, pluralize

_LOG_BYTES = 10_000_000
_LOG_FILES = 5


class NullProgress:
    """Says nothing."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Nothing."""

    def field_done(self) -> None:
        """Nothing."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Nothing."""


class LineProgress(NullProgress):
    """One plain line a slide."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """The slide's name, status and counts."""
        echo_optional(format_slide_line(outcome, action))


class DryRunProgress(NullProgress):
    """What a dry run says."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """One line a slide, and their number."""
        for item in plan:
            echo(f"{display_name(item.slide.id)}: {item.action}, {pluralize(len(item.slide.fields), 'field')}")
        counts = Counter(str(planned.action) for planned in plan)
        echo(f"{pluralize(len(plan), 'slide')}: " + ", ".join(f"{n} {action}" for action, n in sorted(counts.items())))


class BarProgress(NullProgress):
    """A bar that counts the fields of the slides to do; slides that are not well get a line above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("fields", total=None)

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """The bar's length."""
        todo = [planned.slide for planned in plan if planned.action is Action.PROCESS]
        self._progress.update(self._task, total=sum(len(slide.fields) for slide in todo))

    def field_done(self) -> None:
        """One step."""
        self._progress.advance(self._task)

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """A line for a slide that was done, above the bar."""
        if action is Action.PROCESS:
            line = format_slide_line(outcome, action)
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(quiet: bool, dry_run: bool) -> Iterator[NullProgress]:
    """The way to show a run that fits what standard output is."""
    if quiet:
        yield NullProgress()
    elif dry_run:
        yield DryRunProgress()
    elif sys.stdout is not None and sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console()) as progress:
            yield BarProgress(progress)
    else:
        yield LineProgress()


def format_slide_line(outcome: SlideOutcome, action: Action) -> str:
    """One line on a slide."""
    line = f"{display_name(outcome.slide)}: {outcome.status.value}"
    if action is not Action.PROCESS:
        return f"{line} ({action})"
    row = dict(zip(COUNTS_COLUMNS, outcome.row, strict=True))
    missing = f" ({row['fields_failed']} failed)" if int(row["fields_failed"]) else ""
    totals = f"{pluralize(int(row['fields']), 'field')}{missing}, {pluralize(int(row['cells']), 'cell')}"
    return f"{line}, {totals}: {row['counted']} counted, {row['review']} review, {row['not_wbc']} not WBC"


@contextmanager
def configure_logging(quiet: bool, log_file: Path | None) -> Iterator[None]:
    """Warnings, or with ``quiet`` errors, on standard error; everything of note in the log file.

    What libraries warn of goes to the log file alone: a field that Pillow finds odd is read, or refused by us.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.ERROR if quiet else logging.WARNING)
    handlers[0].setFormatter(_ConsoleFormatter())
    if log_file is not None:
        handlers.append(_open_log(log_file))
    root = logging.getLogger("wbctool")
    level = root.level
    root.setLevel(logging.INFO)  # which loggers that have been asked before hear of too
    for handler in handlers:
        root.addHandler(handler)
    warnings_logger = logging.getLogger("py.warnings")
    warnings_logger.propagate = False
    warnings_handler = handlers[1] if log_file is not None else logging.NullHandler()
    warnings_logger.addHandler(warnings_handler)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        warnings_logger.removeHandler(warnings_handler)
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _open_log(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="ascii")
    except OSError as error:
        raise OutputNotWritable(f"the log {path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(_JsonFormatter())
    return handler


class _LogFileHandler(RotatingFileHandler):
    """Where the log cannot be written any more, that is said once on standard error, and the run goes on."""

    _has_warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """In place of a traceback for every line."""
        if not self._has_warned:
            self._has_warned = True
            cause = sys.exc_info()[1]
            print(f"wbctool: the log {display_name(self.baseFilename)} cannot be written: {cause}", file=sys.stderr)


class _ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"wbctool: {display_name(record.getMessage())}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:  # a cluster's worker has made it
            entry["traceback"] = record.exc_text
        return json.dumps(entry)

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

from wbctool.batch.run import Action, Planned
from wbctool.batch.runstate import SlideOutcome
from wbctool.cli.saying import mention, say
from wbctool.errors import OutputNotWritable
from wbctool.layout import name_shown
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.wording import number_of

_LOG_BYTES = 10_000_000
_LOG_FILES = 5


class Silence:
    """Says nothing."""

    def planned(self, plan: Sequence[Planned]) -> None:
        """Nothing."""

    def field_done(self) -> None:
        """Nothing."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Nothing."""


class Lines(Silence):
    """One plain line a slide."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """The slide's name, status and counts."""
        mention(slide_line(outcome, action))


class Plan(Silence):
    """What a dry run says."""

    def planned(self, plan: Sequence[Planned]) -> None:
        """One line a slide, and their number."""
        for planned in plan:
            say(f"{name_shown(planned.slide.id)}: {planned.action}, {number_of(len(planned.slide.fields), 'field')}")
        counts = Counter(str(planned.action) for planned in plan)
        say(f"{number_of(len(plan), 'slide')}: " + ", ".join(f"{n} {action}" for action, n in sorted(counts.items())))


class Bar(Silence):
    """A bar that counts the fields of the slides to do; slides that are not well get a line above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("fields", total=None)

    def planned(self, plan: Sequence[Planned]) -> None:
        """The bar's length."""
        todo = [planned.slide for planned in plan if planned.action is Action.DO]
        self._progress.update(self._task, total=sum(len(slide.fields) for slide in todo))

    def field_done(self) -> None:
        """One step."""
        self._progress.advance(self._task)

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """A line for a slide that was done, above the bar."""
        if action is Action.DO:
            line = slide_line(outcome, action)
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def shown_progress(quiet: bool, dry_run: bool) -> Iterator[Silence]:
    """The way to show a run that fits what standard output is."""
    if quiet:
        yield Silence()
    elif dry_run:
        yield Plan()
    elif sys.stdout is not None and sys.stdout.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console()) as progress:
            yield Bar(progress)
    else:
        yield Lines()


def slide_line(outcome: SlideOutcome, action: Action) -> str:
    """One line on a slide."""
    line = f"{name_shown(outcome.slide)}: {outcome.status.value}"
    if action is not Action.DO:
        return f"{line} ({action})"
    row = dict(zip(COUNTS_COLUMNS, outcome.row, strict=True))
    missing = f" ({row['fields_failed']} failed)" if int(row["fields_failed"]) else ""
    looked_at = f"{number_of(int(row['fields']), 'field')}{missing}, {number_of(int(row['cells']), 'cell')}"
    return f"{line}, {looked_at}: {row['counted']} counted, {row['review']} review, {row['not_wbc']} not WBC"


@contextmanager
def logging_set_up(quiet: bool, log_file: Path | None) -> Iterator[None]:
    """Warnings, or with ``quiet`` errors, on standard error; everything of note in the log file.

    What libraries warn of goes to the log file alone: a field that Pillow finds odd is read, or refused by us.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.ERROR if quiet else logging.WARNING)
    handlers[0].setFormatter(_OneLine())
    if log_file is not None:
        handlers.append(_open_log(log_file))
    root = logging.getLogger("wbctool")
    level = root.level
    root.setLevel(logging.INFO)  # which loggers that have been asked before hear of too
    for handler in handlers:
        root.addHandler(handler)
    of_libraries = logging.getLogger("py.warnings")
    of_libraries.propagate = False
    for_libraries = handlers[1] if log_file is not None else logging.NullHandler()
    of_libraries.addHandler(for_libraries)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        of_libraries.removeHandler(for_libraries)
        root.setLevel(level)
        for handler in handlers:
            root.removeHandler(handler)
            with suppress(OSError):
                handler.close()


def _open_log(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _LogFile(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, encoding="ascii")
    except OSError as error:
        raise OutputNotWritable(f"the log {path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(_JsonLine())
    return handler


class _LogFile(RotatingFileHandler):
    """Where the log cannot be written any more, that is said once on standard error, and the run goes on."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """In place of a traceback for every line."""
        if not self._told:
            self._told = True
            cause = sys.exc_info()[1]
            print(f"wbctool: the log {name_shown(self.baseFilename)} cannot be written: {cause}", file=sys.stderr)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"wbctool: {name_shown(record.getMessage())}"


class _JsonLine(logging.Formatter):
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

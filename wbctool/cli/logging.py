"""Where log records go: warnings to standard error, everything to a log file of JSON lines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from wbctool.cli.output import echo_error
from wbctool.errors import OutputNotWritable
from wbctool.notices import is_notice
from wbctool.paths import LOG_BACKUPS
from wbctool.store.atomic_write import resolve_link
from wbctool.text import display_name

_LOG_BYTES = 10_000_000


@contextmanager
def configure_logging(quiet: bool, log_file: Path | None) -> Iterator[None]:
    """Send wbctool's log records to standard error and to a file, until the context ends.

    Warnings of other libraries go to the log file alone: an image that Pillow warns about is either read or refused.

    Args:
        quiet: Whether standard error shows errors and notices only, and no other warnings.
        log_file: A file that gets a JSON object per line, from the level INFO on; None for none.

    Raises:
        OutputNotWritable: The log file cannot be opened.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(logging.WARNING)
    if quiet:
        handlers[0].addFilter(lambda record: record.levelno >= logging.ERROR or is_notice(record))
    handlers[0].setFormatter(_ConsoleFormatter())
    if log_file is not None:
        handlers.append(_open_log(log_file))
    root = logging.getLogger("wbctool")
    level = root.level
    root.setLevel(logging.INFO)  # also clears what loggers remember of the level before
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
    """Open the log file, and make its folder if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # When the log is full, the file is renamed, and not the link that leads to it.
        target = resolve_link(path) if path.is_file() else path
        handler = _LogFileHandler(target, maxBytes=_LOG_BYTES, backupCount=LOG_BACKUPS, encoding="ascii")
    except OSError as error:
        raise OutputNotWritable(f"the log {path} cannot be written: {error.strerror or error}") from error
    handler.setFormatter(_JsonFormatter())
    return handler


class _LogFileHandler(RotatingFileHandler):
    """A log file; if it can no longer be written, one line on standard error says so, and the run goes on."""

    _has_warned = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802
        """Warn once, in place of a traceback for every line."""
        if not self._has_warned:
            self._has_warned = True
            echo_error(f"the log {self.baseFilename} cannot be written: {sys.exc_info()[1]}")


class _ConsoleFormatter(logging.Formatter):
    """One line, with control characters made visible."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return f"wbctool: {display_name(record.getMessage())}"


class _JsonFormatter(logging.Formatter):
    """One JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        elif record.exc_text:  # from a worker of a cluster
            entry["traceback"] = record.exc_text
        return json.dumps(entry)

"""Log records on their way from a worker to the coordinator."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

LogRecords = tuple[dict[str, Any], ...]
"""Arguments of ``logging.makeLogRecord``, so that they can be pickled."""

_LOGGER = "wbctool"


@contextmanager
def collect_log_records(thread_prefix: str) -> Iterator[list[dict[str, Any]]]:
    """Collect what a task logs while the body of a ``with`` statement runs.

    Args:
        thread_prefix: What the names of the task's threads begin with. Its first thread is the one that calls this.

    Yields:
        The list that the records are appended to.
    """
    collector, logger = _LogCollector(thread_prefix), logging.getLogger(_LOGGER)
    logger.setLevel(logging.INFO)
    logger.addHandler(collector)
    try:
        yield collector.records
    finally:
        logger.removeHandler(collector)


def log_again(records: Iterable[dict[str, Any]]) -> None:
    """Log in this process what was logged in another one."""
    for attributes in records:
        logging.getLogger(attributes["name"]).handle(logging.makeLogRecord(attributes))


class _LogCollector(logging.Handler):
    """Keeps the records of one task's threads; a worker may have a second task."""

    def __init__(self, thread_prefix: str) -> None:
        super().__init__()
        self._thread, self._prefix = get_ident(), thread_prefix
        self.records: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record in a form that can be pickled."""
        if record.thread != self._thread and not (record.threadName or "").startswith(self._prefix):
            return
        kept = {name: getattr(record, name) for name in ("name", "levelno", "levelname")}
        traceback = logging.Formatter().formatException(record.exc_info) if record.exc_info else record.exc_text
        self.records.append({**kept, "msg": record.getMessage(), "exc_text": traceback})

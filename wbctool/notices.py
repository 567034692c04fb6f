"""Notices: what a laboratory must know about a run's input. They reach standard error even with ``--quiet``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

_MAX_NAMES = 10


def log_notice(notice: str) -> None:
    """Log a notice, a sentence without a period."""
    log.warning("%s", notice)


def is_notice(record: logging.LogRecord) -> bool:
    """Return whether a log record is of a notice."""
    return record.name == log.name


def list_names(names: Sequence[str]) -> str:
    """Join names, of which only the first are named if there are many.

    >>> list_names(["a", "b"]), list_names([str(i) for i in range(12)])
    ('a, b', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more')
    """
    text = ", ".join(names[:_MAX_NAMES])
    return text if len(names) <= _MAX_NAMES else f"{text} and {len(names) - _MAX_NAMES} more"

"""What the workers of a Dask cluster tell a run's coordinator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbctool.store.hash_cache import FileStat
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.store.slide_writer import SlideFiles


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a run's setup on a worker ended. Sent as a Dask event, so of JSON values only.

    error: empty if the worker can process slides. cache_key: all that its results depend on but the fields, as JSON.
    device_message: why ``--device auto`` does not use the GPU that there is.
    """

    address: str
    host: str
    error: str = ""
    provider: str = ""
    cache_key: str = ""
    device_message: str | None = None


@dataclass(frozen=True, slots=True)
class SlideCompleted:
    """A processed slide. files: None if it failed as a whole. log_records: arguments of ``logging.makeLogRecord``.

    field_hashes: name, size and times, SHA-256 of each field. batch_sizes: cells per batch of each model so far.
    """

    host: str
    outcome: SlideOutcome
    files: SlideFiles | None
    field_hashes: tuple[tuple[str, FileStat, str], ...]
    log_records: tuple[dict[str, Any], ...]
    batch_sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FieldNotVisible:
    """In place of a processed slide: the worker at ``address`` cannot see the field ``path``."""

    address: str
    path: Path

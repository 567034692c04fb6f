"""What the workers of a Dask cluster tell a run's coordinator and each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wbctool.cluster.log_records import LogRecords
from wbctool.pipeline.cell_worker import ClassifiedField
from wbctool.pipeline.field_worker import FieldAnalysis
from wbctool.store.hash_cache import FileStat
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.store.slide_writer import SlideFiles


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """How a run's setup on a worker ended. It is sent as a Dask event, so it has JSON values only.

    Attributes:
        address: The worker's address.
        host: The name of its machine.
        error: Why the worker cannot process slides; empty if it can.
        provider: The execution provider that its models run on.
        cache_key: All that its results depend on except the fields, as JSON.
        device_message: Why ``--device auto`` does not use the GPU that there is; None if it does, or there is none.
    """

    address: str
    host: str
    error: str = ""
    provider: str = ""
    cache_key: str = ""
    device_message: str | None = None


@dataclass(frozen=True, slots=True)
class SlideCompleted:
    """A processed slide.

    Attributes:
        host: The name of the worker's machine.
        outcome: The slide's outcome.
        files: The files to publish; None if the slide failed as a whole.
        field_hashes: The name, the size and times, and the SHA-256 of each field.
        log_records: What was logged.
        batch_sizes: The cells per batch of each model so far.
    """

    host: str
    outcome: SlideOutcome
    files: SlideFiles | None
    field_hashes: tuple[tuple[str, FileStat, str], ...]
    log_records: LogRecords
    batch_sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ZonesCompleted:
    """Some processed zones of a scan, for the worker that has the scan.

    Attributes:
        fields: Each zone, without its crops, and its classified cells.
        log_records: What was logged.
        batch_sizes: The cells per batch of each model so far.
    """

    fields: tuple[tuple[FieldAnalysis, ClassifiedField], ...]
    log_records: LogRecords
    batch_sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FieldNotVisible:
    """A worker's answer if it cannot see a file.

    Attributes:
        address: The worker's address.
        path: The file.
    """

    address: str
    path: Path

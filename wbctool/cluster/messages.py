"""What the coordinator of a run on a Dask cluster and its workers say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbctool.settings import RunSettings
from wbctool.store.hash_cache import FileStat
from wbctool.store.slide_record import SlideOutcome
from wbctool.store.slide_writer import SlideFiles
from wbctool.types.results import Provenance


@dataclass(frozen=True, slots=True)
class Job:
    """One run, as its workers know it. settings: with paths that mean the same on every machine."""

    id: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a worker has for a run.

    process: tells its process from another one of the same address. gpus: how many the lab gave it (``--resources``).
    provenance, basis: as :class:`~wbctool.pipeline.bound_stages.Stages` has them.
    """

    process: str
    host: str
    gpus: float
    tool_version: str
    provenance: Provenance
    basis: Mapping[str, Any]
    device_note: str | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line for the coordinator's log. traceback: empty where there is none."""

    logger: str
    level: int
    message: str
    traceback: str


@dataclass(frozen=True, slots=True)
class SlideDone:
    """A slide as a worker did it. made: None where it failed as a whole. seen: each field's stamp and SHA-256.

    rows: those of each model's batches, by now.
    """

    outcome: SlideOutcome
    made: SlideFiles | None
    seen: tuple[tuple[str, FileStat, str], ...]
    log: tuple[LogLine, ...]
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Unknown:
    """In place of a slide: this process does not know the run, or not any more. process: which it is."""

    process: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """In place of a slide: a field that the coordinator sees cannot be seen from this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class Failed:
    """In place of an answer: what went wrong. Dask loses a task whose error it cannot send, so none is left to it."""

    cause: str

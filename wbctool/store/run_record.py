"""run.json, the record of the last run: its type, its one reader and its one writer."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, PlainSerializer, TypeAdapter

import wbctool
from wbctool.errors import RecordInvalid
from wbctool.paths import RUN_JSON, RUN_SIGNATURE, OutputPaths
from wbctool.settings import RunSettings
from wbctool.store import former_records
from wbctool.store.atomic_write import format_json, write_atomic
from wbctool.store.json_record import RecordSchema, read_record_bytes, validate_record
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.timing import add_seconds
from wbctool.types.results import FieldFailure, Provenance, SlideStatus
from wbctool.types.scans import ScanSummary

SCHEMA = "wbctool-run/2"
_HEAD_BYTES = 64
_ONLY_AT_END = ("cluster", "batch_sizes", "counts", "seconds", "slides")


def _format_time(time: datetime) -> str:
    """Write a time as run.json has it."""
    return time.isoformat(timespec="milliseconds")


_Time = Annotated[AwareDatetime, AfterValidator(lambda time: time.astimezone(UTC)), PlainSerializer(_format_time)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSlide:
    """One slide of a run.

    Attributes:
        slide: The slide's id.
        status: Its status.
        done_in_run: Whether this run processed it; False if it kept what an earlier run did.
        fields, fields_failed, cells, counted: Its values in counts.csv.
        seconds: The time that each stage took.
        errors: The failures of its fields, or of the slide as a whole.
        repeated_cells: The number of cells that a second field shows, which are counted once.
        scan: What was done with a whole-slide scan: its zones, and why some were passed over. None for a folder.
    """

    slide: str
    status: SlideStatus
    done_in_run: bool
    fields: int
    fields_failed: int
    cells: int
    counted: int
    seconds: Mapping[str, float]
    errors: tuple[FieldFailure, ...]
    repeated_cells: int = 0
    scan: ScanSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The content of run.json, apart from its schema.

    Attributes:
        argv: The command line.
        settings: All settings, as JSON values.
        tool_version: The version of wbctool.
        git_commit: The commit of a source checkout; None for an installed package.
        host: The machine's name.
        device: ``cuda`` or ``cpu``, as really used.
        provider: The provider of ONNX Runtime that was used.
        precision: The precision that was used.
        device_message: Why ``--device auto`` does not use the GPU that there is; None if there is none.
        models: The SHA-256 of each model, by file name.
        start: When the run began.
        notices: What a laboratory must know about the run's input, in plain sentences.
        last_end: When the last run before it ended; None if none has.
        end: When it ended; None while it goes on.
        exit_code: Its exit code; None while it goes on.
        stopped_by: The signal or setting that stopped it.
        cluster: The workers of a cluster, and which machine processed which slide.
        batch_sizes: The cells of one call, by model.
        counts: The number of slides, by status.
        seconds: The time that each stage took, summed over all threads.
        slides: Every slide in order; None while the run goes on.
    """

    argv: tuple[str, ...]
    settings: Mapping[str, Any]
    tool_version: str
    git_commit: str | None
    host: str
    device: str
    provider: str
    precision: str
    device_message: str | None
    models: Mapping[str, str]
    start: _Time
    notices: tuple[str, ...] = ()
    last_end: _Time | None = None
    end: _Time | None = None
    exit_code: int | None = None
    stopped_by: str | None = None
    cluster: Mapping[str, Any] | None = None
    batch_sizes: Mapping[str, int] | None = None
    counts: Mapping[str, int] | None = None
    seconds: Mapping[str, float] | None = None
    slides: tuple[RunSlide, ...] | None = None


_RECORD_SCHEMA = RecordSchema(
    "run", SCHEMA, former_records.RUN_SCHEMA, former_records.upgrade_run, TypeAdapter(RunRecord)
)


def find_last_end(output: OutputPaths) -> datetime | None:
    """Return when the last run into an output ended; None if none has, or run.json cannot be read."""
    try:
        last = read_run_record(output)
    except RecordInvalid:
        return None
    return last.end or last.last_end


def start_run_record(
    settings: RunSettings,
    provenance: Provenance,
    device_message: str | None,
    argv: Sequence[str],
    notices: Sequence[str],
    last_end: datetime | None,
) -> RunRecord:
    """Return the record of a run that begins now.

    Args:
        settings: The run's settings.
        provenance: What makes its results.
        device_message: Why ``--device auto`` does not use the GPU that there is; None if there is none.
        argv: The command line.
        notices: What a laboratory must know about its input.
        last_end: When the last run before it ended; None if none has.
    """
    return RunRecord(
        argv=tuple(argv),
        settings=settings.to_flat_dict() | {"slides": os.path.abspath(settings.slides)},  # noqa: PTH100, keeps links
        tool_version=wbctool.__version__,
        git_commit=read_git_commit(),
        host=platform.node(),
        device="cuda" if provenance.provider.startswith("CUDA") else "cpu",
        provider=provenance.provider,
        precision=provenance.precision,
        device_message=device_message,
        models={model.file: model.sha256 for model in provenance.models},
        start=datetime.now(UTC),
        notices=tuple(notices),
        last_end=last_end,
    )


def finish_run_record(
    record: RunRecord,
    outcomes: Sequence[SlideOutcome],
    processed_ids: Container[str],
    exit_code: int,
    stopped_by: str | None,
    batch_sizes: Mapping[str, int],
    cluster: Mapping[str, Any] | None,
    notices: Sequence[str],
) -> RunRecord:
    """Return the record of a run that ends now.

    Args:
        record: Its record from the start.
        outcomes: Every slide, in order.
        processed_ids: The ids of the slides that this run processed.
        exit_code: The exit code.
        stopped_by: The signal or setting that stopped it.
        batch_sizes: The cells of one call, by model.
        cluster: The workers of a cluster; None without one.
        notices: What a laboratory must know about its input, as it is known at the end.
    """
    seconds: dict[str, float] = {}
    for outcome in outcomes:
        add_seconds(seconds, outcome.seconds)
    return replace(
        record,
        end=datetime.now(UTC),
        exit_code=exit_code,
        stopped_by=stopped_by,
        notices=tuple(notices),
        cluster=cluster,
        batch_sizes=dict(batch_sizes),
        counts=dict(Counter(outcome.status.value for outcome in outcomes)),
        seconds=_round_seconds(seconds),
        slides=tuple(_make_slide(outcome, outcome.slide in processed_ids) for outcome in outcomes),
    )


def write_run_record(output: OutputPaths, record: RunRecord) -> None:
    """Write run.json. This is its one writer.

    Raises:
        OutputNotWritable: The file cannot be written.
    """
    values = _RECORD_SCHEMA.adapter.dump_python(record)
    content = {key: value for key, value in values.items() if value is not None or key not in _ONLY_AT_END}
    write_atomic(output.run_json, format_json({"schema": SCHEMA, **content}).encode("ascii"))


def read_run_record(output: OutputPaths) -> RunRecord:
    """Read run.json of this schema version or the one before. This is its one reader.

    Raises:
        RecordInvalid: The file is missing or not valid; it names the place in the file.
    """
    path = output.run_json
    text = read_record_bytes(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordInvalid(path, f"is not a valid record of a run: {error}") from error
    return validate_record(content, path, _RECORD_SCHEMA)


def is_results(folder: Path) -> bool:
    """Return whether a folder holds a run's results, of any version."""
    try:
        with (folder / RUN_JSON).open("rb") as file:
            return RUN_SIGNATURE.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def read_git_commit() -> str | None:
    """Return the commit of a source checkout; None for an installed package."""
    checkout = Path(wbctool.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None


def _make_slide(outcome: SlideOutcome, done_in_run: bool) -> RunSlide:
    """Return what run.json says of a slide."""
    values = outcome.counts
    return RunSlide(
        slide=outcome.slide,
        status=outcome.status,
        done_in_run=done_in_run,
        fields=int(values["fields"]),
        fields_failed=int(values["fields_failed"]),
        cells=int(values["cells"]),
        counted=int(values["counted"]),
        seconds=_round_seconds(outcome.seconds),
        errors=outcome.failures,
        repeated_cells=outcome.repeated_cells,
        scan=outcome.scan,
    )


def _round_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Round times to milliseconds, in the order of their names."""
    return {stage: round(value, 3) for stage, value in sorted(seconds.items())}

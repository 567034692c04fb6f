"""What the last run on an output did, read from its run.json, for people and for monitoring."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from wbctool.errors import OutputLocked, OutputNotWritable, StatusUnknown
from wbctool.paths import OutputPaths
from wbctool.pipeline.discovery import is_results
from wbctool.store.atomic_write import write_json_atomic
from wbctool.store.lock import get_process_start, lock_output
from wbctool.text import display_name
from wbctool.types.results import FieldFailure, SlideStatus


class RunPhase(StrEnum):
    """Where the last run is."""

    ENDED = "ended"
    RUNNING = "running"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class SlideStatusEntry:
    """One slide of the last run. done_in_run: whether that run did it, or kept what an earlier one did."""

    slide: str
    status: SlideStatus
    done_in_run: bool
    fields: int
    fields_failed: int
    cells: int
    counted: int
    errors: tuple[FieldFailure, ...]


@dataclass(frozen=True, slots=True)
class RunReport:
    """The last run. end, exit_code, slides: as known; a run that goes on or was killed has none of them yet.

    failure: why the last run ended without a record of its own; the slides are then those of the run before it.
    """

    phase: RunPhase
    start: datetime
    end: datetime | None
    exit_code: int | None
    stopped_by: str | None
    provider: str
    precision: str
    tool_version: str
    holder: str
    failure: str
    slides: tuple[SlideStatusEntry, ...]

    def count(self, status: SlideStatus) -> int:
        """The slides of a status."""
        return sum(slide.status is status for slide in self.slides)

    @property
    def duration(self) -> timedelta | None:
        """From start to end."""
        return None if self.end is None else self.end - self.start


def read_report(layout: OutputPaths) -> RunReport:
    """What the last run did. Raises StatusUnknown where there was none, or none that this version can read."""
    try:
        run = json.loads(layout.run_json.read_bytes())
        end = run["end"] and _parse_time(run["end"])
        holder = _describe_holder(layout)
        failure = _read_failure(layout)
        phase = RunPhase.RUNNING if holder else RunPhase.ENDED if end or failure else RunPhase.KILLED
        return RunReport(
            phase=phase,
            start=_parse_time(failure["start"] if failure else run["start"]),
            end=_parse_time(failure["end"]) if failure else end or None,
            exit_code=failure["exit_code"] if failure else run["exit_code"],
            stopped_by=None if failure else run["stopped_by"],
            provider=run["provider"],
            precision=run["precision"],
            tool_version=run["tool_version"],
            holder=holder,
            failure=failure["cause"] if failure else "",
            slides=tuple(_parse_slide(entry, is_last_run=not failure) for entry in run.get("slides", ())),
        )
    except FileNotFoundError as error:
        raise StatusUnknown(f"{layout.run_json} is missing: no run has looked at a slide yet") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatusUnknown(f"{layout.run_json} is not a valid record of a run: {error}") from error


def read_report_or_none(layout: OutputPaths) -> RunReport | None:
    """As :func:`read_report`; None where there is nothing to read."""
    try:
        return read_report(layout)
    except StatusUnknown:
        return None


def save_failure(layout: OutputPaths, start: datetime, exit_code: int, cause: str) -> None:
    """Leave word of a run that ended without a run.json of its own, beside the results of earlier ones.

    Nowhere else: a folder of that name may hold anything, the slides even.
    """
    if is_results(layout.folder):
        with suppress(OutputLocked, OutputNotWritable), lock_output(layout):
            end = datetime.now(UTC)
            content = {"start": start.isoformat(), "end": end.isoformat(), "exit_code": exit_code, "cause": cause}
            write_json_atomic(layout.failure_json, content)


def clear_failure(layout: OutputPaths) -> None:
    """A later run has begun."""
    with suppress(OSError):
        layout.failure_json.unlink()


def format_status_text(report: RunReport) -> str:
    """A few lines for a person: when, what, and every slide that is not well."""
    lines = [_format_headline(report), f"on {report.provider}, {report.precision}, wbctool {report.tool_version}"]
    if report.slides:
        counts = ", ".join(f"{n} {status}" for status in SlideStatus if (n := report.count(status)))
        n_processed = sum(slide.done_in_run for slide in report.slides)
        origin = "as an earlier run left them" if report.failure else f"{n_processed} of them done in that run"
        lines.append(f"slides: {counts}; {origin}")
    for slide in report.slides:
        if slide.status is SlideStatus.WAITING:
            lines.append(f"waiting: {display_name(slide.slide)}")
        elif slide.status is not SlideStatus.OK:
            lines.append(
                f"{slide.status}: {display_name(slide.slide)}: {slide.fields_failed} of {slide.fields} fields failed"
            )
            lines += [
                f"  {display_name(error.field) or 'the slide'}, {error.stage}: {display_name(error.cause)}"
                for error in slide.errors
            ]
    return "\n".join(lines)


def format_status_json(report: RunReport) -> str:
    """The same for programs; times are ISO 8601, UTC."""
    content: dict[str, Any] = {
        "schema": "wbctool-status/1",
        "phase": report.phase,
        "start": report.start.isoformat(),
        "end": report.end and report.end.isoformat(),
        "exit_code": report.exit_code,
        "stopped_by": report.stopped_by,
        "provider": report.provider,
        "precision": report.precision,
        "tool_version": report.tool_version,
        "holder": report.holder or None,
        "failure": report.failure or None,
        "slides": {status.value: report.count(status) for status in SlideStatus},
        "done_in_run": sum(slide.done_in_run for slide in report.slides),
        "waiting": [slide.slide for slide in report.slides if slide.status is SlideStatus.WAITING],
        "failed": [
            {
                "slide": slide.slide,
                "status": slide.status.value,
                "errors": [{"field": e.field, "stage": e.stage, "cause": e.cause} for e in slide.errors],
            }
            for slide in report.slides
            if slide.status in {SlideStatus.PARTIAL, SlideStatus.FAILED}
        ],
    }
    return json.dumps(content, indent=1)


def _format_headline(report: RunReport) -> str:
    start = f"{report.start:%Y-%m-%d %H:%M:%S} UTC"
    if report.phase is RunPhase.RUNNING:
        return f"running since {start}, {report.holder}"
    if report.failure:
        return f"last run: {start}, exit code {report.exit_code}: {display_name(report.failure)}"
    if report.phase is RunPhase.KILLED:
        return f"the last run, started {start}, was killed before it ended; the next one resumes where it stopped"
    stop_reason = f", stopped by {report.stopped_by}" if report.stopped_by else ""
    assert report.duration is not None
    return f"last run: {start}, {report.duration.total_seconds():.0f} s, exit code {report.exit_code}{stop_reason}"


def _describe_holder(layout: OutputPaths) -> str:
    """The live process that holds the output, in words; empty where there is none.

    Read from the note that the holder leaves, not by trying its lock: a look at the status must not turn a run away.
    A process on another host is believed to live: it cannot be asked from here.
    """
    try:
        holder = json.loads(layout.lock_holder_json.read_bytes())
        pid, host, started = int(holder["pid"]), str(holder["host"]), str(holder["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if host == platform.node():
        return f"process {pid} on {host}" if _is_alive(pid, started) else ""
    return f"process {pid} on {host}, which cannot be checked from here"


def _is_alive(pid: int, started: str) -> bool:
    now = get_process_start(pid)
    if started and now:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # there, but another user's
        return True
    return True


def _read_failure(layout: OutputPaths) -> dict[str, Any] | None:
    try:
        content = json.loads(layout.failure_json.read_bytes())
        return {key: content[key] for key in ("start", "end", "exit_code", "cause")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _parse_slide(entry: dict[str, Any], is_last_run: bool) -> SlideStatusEntry:
    return SlideStatusEntry(
        slide=entry["slide"],
        status=SlideStatus(entry["status"]),
        done_in_run=is_last_run and entry["done_in_run"],
        fields=entry["fields"],
        fields_failed=entry["fields_failed"],
        cells=entry["cells"],
        counted=entry["counted"],
        errors=tuple(FieldFailure(**error) for error in entry["errors"]),
    )


def _parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

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

from wbctool.batch.publish import hold, process_start, publish_json
from wbctool.batch.slides import is_results
from wbctool.errors import OutputLocked, OutputNotWritable, StatusUnknown
from wbctool.layout import OutputLayout, name_shown
from wbctool.slide_results import FieldFailure, SlideStatus


class RunPhase(StrEnum):
    """Where the last run is."""

    ENDED = "ended"
    RUNNING = "running"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class SlideReport:
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
    slides: tuple[SlideReport, ...]

    def number(self, status: SlideStatus) -> int:
        """The slides of a status."""
        return sum(slide.status is status for slide in self.slides)

    @property
    def duration(self) -> timedelta | None:
        """From start to end."""
        return None if self.end is None else self.end - self.start


def read_report(layout: OutputLayout) -> RunReport:
    """What the last run did. Raises StatusUnknown where there was none, or none that this version can read."""
    try:
        run = json.loads(layout.run.read_bytes())
        end = run["end"] and _time(run["end"])
        holder = _holder(layout)
        failed = _failure(layout)
        phase = RunPhase.RUNNING if holder else RunPhase.ENDED if end or failed else RunPhase.KILLED
        return RunReport(
            phase=phase,
            start=_time(failed["start"] if failed else run["start"]),
            end=_time(failed["end"]) if failed else end or None,
            exit_code=failed["exit_code"] if failed else run["exit_code"],
            stopped_by=None if failed else run["stopped_by"],
            provider=run["provider"],
            precision=run["precision"],
            tool_version=run["tool_version"],
            holder=holder,
            failure=failed["cause"] if failed else "",
            slides=tuple(_slide(entry, of_last_run=not failed) for entry in run.get("slides", ())),
        )
    except FileNotFoundError as error:
        raise StatusUnknown(f"{layout.run} is missing: no run has looked at a slide yet") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatusUnknown(f"{layout.run} is not a valid record of a run: {error}") from error


def last_report(layout: OutputLayout) -> RunReport | None:
    """As :func:`read_report`; None where there is nothing to read."""
    try:
        return read_report(layout)
    except StatusUnknown:
        return None


def record_failure(layout: OutputLayout, start: datetime, exit_code: int, cause: str) -> None:
    """Leave word of a run that ended without a run.json of its own, beside the results of earlier ones.

    Nowhere else: a folder of that name may hold anything, the slides even.
    """
    if is_results(layout.folder):
        with suppress(OutputLocked, OutputNotWritable), hold(layout):
            end = datetime.now(UTC)
            content = {"start": start.isoformat(), "end": end.isoformat(), "exit_code": exit_code, "cause": cause}
            publish_json(layout.failure, content)


def forget_failure(layout: OutputLayout) -> None:
    """A later run has begun."""
    with suppress(OSError):
        layout.failure.unlink()


def as_text(report: RunReport) -> str:
    """A few lines for a person: when, what, and every slide that is not well."""
    lines = [_headline(report), f"on {report.provider}, {report.precision}, wbctool {report.tool_version}"]
    if report.slides:
        counts = ", ".join(f"{n} {status}" for status in SlideStatus if (n := report.number(status)))
        done = sum(slide.done_in_run for slide in report.slides)
        whose = "as an earlier run left them" if report.failure else f"{done} of them done in that run"
        lines.append(f"slides: {counts}; {whose}")
    for slide in report.slides:
        if slide.status is SlideStatus.WAITING:
            lines.append(f"waiting: {name_shown(slide.slide)}")
        elif slide.status is not SlideStatus.OK:
            lines.append(
                f"{slide.status}: {name_shown(slide.slide)}: {slide.fields_failed} of {slide.fields} fields failed"
            )
            lines += [
                f"  {name_shown(error.field) or 'the slide'}, {error.stage}: {name_shown(error.cause)}"
                for error in slide.errors
            ]
    return "\n".join(lines)


def as_json(report: RunReport) -> str:
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
        "slides": {status.value: report.number(status) for status in SlideStatus},
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


def _headline(report: RunReport) -> str:
    start = f"{report.start:%Y-%m-%d %H:%M:%S} UTC"
    if report.phase is RunPhase.RUNNING:
        return f"running since {start}, {report.holder}"
    if report.failure:
        return f"last run: {start}, exit code {report.exit_code}: {name_shown(report.failure)}"
    if report.phase is RunPhase.KILLED:
        return f"the last run, started {start}, was killed before it ended; the next one resumes where it stopped"
    stopped = f", stopped by {report.stopped_by}" if report.stopped_by else ""
    assert report.duration is not None
    return f"last run: {start}, {report.duration.total_seconds():.0f} s, exit code {report.exit_code}{stopped}"


def _holder(layout: OutputLayout) -> str:
    """The live process that holds the output, in words; empty where there is none.

    Read from the note that the holder leaves, not by trying its lock: a look at the status must not turn a run away.
    A process on another host is believed to live: it cannot be asked from here.
    """
    try:
        note = json.loads(layout.lock_holder.read_bytes())
        pid, host, started = int(note["pid"]), str(note["host"]), str(note["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if host == platform.node():
        return f"process {pid} on {host}" if _is_alive(pid, started) else ""
    return f"process {pid} on {host}, which cannot be checked from here"


def _is_alive(pid: int, started: str) -> bool:
    now = process_start(pid)
    if started and now:
        return now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # there, but another user's
        return True
    return True


def _failure(layout: OutputLayout) -> dict[str, Any] | None:
    try:
        content = json.loads(layout.failure.read_bytes())
        return {key: content[key] for key in ("start", "end", "exit_code", "cause")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _slide(entry: dict[str, Any], of_last_run: bool) -> SlideReport:
    return SlideReport(
        slide=entry["slide"],
        status=SlideStatus(entry["status"]),
        done_in_run=of_last_run and entry["done_in_this_run"],
        fields=entry["fields"],
        fields_failed=entry["fields_failed"],
        cells=entry["cells"],
        counted=entry["counted"],
        errors=tuple(FieldFailure(**error) for error in entry["errors"]),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

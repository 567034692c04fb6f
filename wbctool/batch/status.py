"""What the last run on an output did, read from its run.json, for people and for monitoring."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from wbctool.errors import StatusUnknown
from wbctool.layout import OutputLayout, name_shown
from wbctool.records import FieldFailure, SlideStatus


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
    """The last run. end, exit_code, slides: as known; a run that goes on or was killed has none of them yet."""

    phase: RunPhase
    start: datetime
    end: datetime | None
    exit_code: int | None
    stopped_by: str | None
    provider: str
    precision: str
    tool_version: str
    holder: str
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
        phase = RunPhase.ENDED if end else RunPhase.RUNNING if holder else RunPhase.KILLED
        return RunReport(
            phase=phase,
            start=_time(run["start"]),
            end=end or None,
            exit_code=run["exit_code"],
            stopped_by=run["stopped_by"],
            provider=run["provider"],
            precision=run["precision"],
            tool_version=run["tool_version"],
            holder=holder,
            slides=tuple(_slide(entry) for entry in run.get("slides", ())),
        )
    except FileNotFoundError as error:
        raise StatusUnknown(f"{layout.run} is not there: no run has been started on {layout.counts}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StatusUnknown(f"{layout.run} cannot be read as a run's record: {error}") from error


def last_report(layout: OutputLayout) -> RunReport | None:
    """As :func:`read_report`; None where there is nothing to read."""
    try:
        return read_report(layout)
    except StatusUnknown:
        return None


def as_text(report: RunReport) -> str:
    """A few lines for a person: when, what, and every slide that is not well."""
    lines = [_headline(report), f"on {report.provider}, {report.precision}, wbctool {report.tool_version}"]
    if report.slides:
        counts = ", ".join(f"{n} {status}" for status in SlideStatus if (n := report.number(status)))
        done = sum(slide.done_in_run for slide in report.slides)
        lines.append(f"slides: {counts}; {done} of them done in that run")
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
    if report.phase is RunPhase.KILLED:
        return f"the last run, started {start}, was killed before its end; the next one goes on where it was"
    stopped = f", stopped by {report.stopped_by}" if report.stopped_by else ""
    assert report.duration is not None
    return f"last run: {start}, {report.duration.total_seconds():.0f} s, exit code {report.exit_code}{stopped}"


def _holder(layout: OutputLayout) -> str:
    """The live process that holds the output, in words; empty where there is none.

    Read from the note that the holder leaves, not by trying its lock: a look at the status must not turn a run away.
    """
    try:
        note = json.loads(layout.lock_holder.read_bytes())
        pid, host = int(note["pid"]), str(note["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if host == platform.node():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except OSError:  # there, but another user's
            pass
    return f"process {pid} on {host}"


def _slide(entry: dict[str, Any]) -> SlideReport:
    return SlideReport(
        slide=entry["slide"],
        status=SlideStatus(entry["status"]),
        done_in_run=entry["done_in_this_run"],
        fields=entry["fields"],
        fields_failed=entry["fields_failed"],
        cells=entry["cells"],
        counted=entry["counted"],
        errors=tuple(FieldFailure(**error) for error in entry["errors"]),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

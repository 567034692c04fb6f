"""What the last run on an output did, for people and for monitoring."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, TypeAdapter

from wbctool.errors import OutputLocked, OutputNotWritable, RecordInvalid, StatusUnknown
from wbctool.paths import OutputPaths
from wbctool.store.atomic_write import write_json_atomic
from wbctool.store.counts_table import read_outcomes
from wbctool.store.drift import Drift, find_drift
from wbctool.store.ended_reviews import EndedReview, find_ended_reviews, update_notices
from wbctool.store.lock import RUN_COMMAND, LockHolder, lock_output, read_holder
from wbctool.store.run_record import RunSlide, is_results, read_run_record
from wbctool.text import display_name
from wbctool.types.differential import Flag
from wbctool.types.results import FAILURE_STATUSES, SlideStatus


class RunPhase(StrEnum):
    """Whether the last run ended, goes on, or was killed."""

    ENDED = "ended"
    RUNNING = "running"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class RunFailure:
    """The content of ``.failure.json``: a run that ended without a run.json of its own.

    Attributes:
        start: When the run began.
        end: When it ended.
        exit_code: Its exit code.
        cause: Why it ended.
    """

    start: AwareDatetime
    end: AwareDatetime
    exit_code: int
    cause: str


_FAILURE = TypeAdapter(RunFailure)


@dataclass(frozen=True, slots=True)
class RunReport:
    """The last run.

    Attributes:
        phase: Where the run is.
        start: When it began, UTC.
        last_end: When the last run before it ended, UTC; None if none has.
        end: When it ended, UTC; None if it goes on or was killed.
        exit_code: Its exit code; None if it goes on or was killed.
        stopped_by: The signal or setting that stopped it.
        provider: The provider of ONNX Runtime that was used.
        precision: The precision that was used.
        tool_version: The version of wbctool.
        holder: The process that executes a run into the output, in words; empty if none does.
        failure: Why the last run ended without a run.json of its own; ``slides`` are then those of the run before it.
        slides: The slides, in order; none if the run goes on or was killed.
        reviewed: How many of them readers have reviewed. None, as the next two, if the tables do not tell.
        unfamiliar: How many of them have the flag ``unfamiliar``.
        possible_blasts: The ids of those with the flag ``possible_blasts``, in order.
        notices: What a laboratory must know about the run's input.
        ended_reviews: The reviews that ended, as other cells were found, and that nobody has acknowledged.
        drift: The familiarity of the last slides against the first; None with too few slides.
    """

    phase: RunPhase
    start: datetime
    last_end: datetime | None
    end: datetime | None
    exit_code: int | None
    stopped_by: str | None
    provider: str
    precision: str
    tool_version: str
    holder: str
    failure: str
    slides: tuple[RunSlide, ...]
    reviewed: int | None
    unfamiliar: int | None
    possible_blasts: tuple[str, ...] | None
    notices: tuple[str, ...]
    ended_reviews: tuple[EndedReview, ...]
    drift: Drift | None

    def count(self, status: SlideStatus) -> int:
        """Return the number of slides of a status."""
        return sum(slide.status is status for slide in self.slides)

    @property
    def duration(self) -> timedelta | None:
        """The time from start to end; None if it has no end."""
        return None if self.end is None else self.end - self.start


def read_report(output: OutputPaths) -> RunReport:
    """Return what the last run did.

    Raises:
        StatusUnknown: There was no run, or its run.json cannot be read.
    """
    try:
        run = read_run_record(output)
    except RecordInvalid as error:
        hint = ": no run has looked at a slide yet" if isinstance(error.__cause__, FileNotFoundError) else ""
        raise StatusUnknown(f"{error}{hint}") from error
    holder, failure = _find_live_holder(output), _read_failure(output)
    phase = RunPhase.RUNNING if holder else RunPhase.ENDED if run.end or failure else RunPhase.KILLED
    if holder is not None:
        failure = None  # of a run before
        started = datetime.fromtimestamp(holder.started, UTC) if isinstance(holder.started, float) else run.start
        if run.end is not None or run.start < started:  # it is loading its models, and has written nothing yet
            last_end = run.end or run.last_end
            run = replace(run, start=started, last_end=last_end, end=None, exit_code=None, slides=None)
    slides = run.slides or ()
    outcomes = read_outcomes(output) if slides else None
    return RunReport(
        phase=phase,
        start=failure.start if failure else run.start,
        last_end=run.last_end,
        end=failure.end if failure else run.end,
        exit_code=failure.exit_code if failure else run.exit_code,
        stopped_by=None if failure else run.stopped_by,
        provider=run.provider,
        precision=run.precision,
        tool_version=run.tool_version,
        holder=_describe_holder(holder) if holder else "",
        failure=failure.cause if failure else "",
        slides=tuple(replace(slide, done_in_run=False) for slide in slides) if failure else slides,
        reviewed=None if outcomes is None else sum(bool(outcome.readers) for outcome in outcomes),
        unfamiliar=None if outcomes is None else sum(Flag.UNFAMILIAR in outcome.flags for outcome in outcomes),
        possible_blasts=None
        if outcomes is None
        else tuple(outcome.slide for outcome in outcomes if Flag.POSSIBLE_BLASTS in outcome.flags),
        notices=tuple(update_notices(run.notices, {}, ())),
        ended_reviews=tuple(find_ended_reviews(output).values()),
        drift=find_drift(output, [slide.slide for slide in slides]),
    )


def read_report_or_none(output: OutputPaths) -> RunReport | None:
    """Return what the last run did; None if nothing can be read."""
    try:
        return read_report(output)
    except StatusUnknown:
        return None


def save_failure(output: OutputPaths, start: datetime, exit_code: int, cause: str) -> None:
    """Note a run that ended without a run.json of its own, beside the results of earlier runs.

    Without such results nothing is written: a folder of that name may hold anything, even the slides.

    Args:
        output: The output.
        start: When the run began.
        exit_code: Its exit code.
        cause: Why it ended.
    """
    if is_results(output.folder):
        with suppress(OutputLocked, OutputNotWritable), lock_output(output):
            end = datetime.now(UTC)
            content = {"start": start.isoformat(), "end": end.isoformat(), "exit_code": exit_code, "cause": cause}
            write_json_atomic(output.failure_json, content)


def clear_failure(output: OutputPaths) -> None:
    """Remove the note of a failed run, as a later run has begun."""
    with suppress(OSError):
        output.failure_json.unlink()


def format_status_text(report: RunReport) -> str:
    """Return lines for a person: when the run was, its result, its notices, and every slide that needs a look."""
    lines = [_format_headline(report), f"on {report.provider}, {report.precision}, wbctool {report.tool_version}"]
    if report.slides:
        counts = ", ".join(f"{n} {status}" for status in SlideStatus if (n := report.count(status)))
        n_processed = sum(slide.done_in_run for slide in report.slides)
        origin = "as an earlier run left them" if report.failure else f"that run processed {n_processed}"
        lines.append(f"slides: {counts}; {origin}")
    if report.reviewed is not None:
        lines.append(f"reviewed: {report.reviewed}, unfamiliar: {report.unfamiliar}")
    lines += [f"possible blasts: {display_name(slide)}" for slide in report.possible_blasts or ()]
    lines += [f"notice: {display_name(notice)}" for notice in report.notices]
    lines += [display_name(review.sentence) for review in report.ended_reviews]
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
    """Return the same as JSON for programs; times are ISO 8601, UTC."""
    return json.dumps({"schema": "wbctool-status/1", **describe_report(report)}, indent=1)


def describe_report(report: RunReport) -> dict[str, Any]:
    """Return the last run as JSON values."""
    return {
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
        "notices": list(report.notices),
        "ended_reviews": [asdict(review) for review in report.ended_reviews],
        "drift": report.drift
        and {
            "slides": report.drift.slides,
            "first_mean_distance": report.drift.first_mean,
            "last_mean_distance": report.drift.last_mean,
            "p": report.drift.p,
            "has_wandered": report.drift.has_wandered,
        },
        "slides": {status.value: report.count(status) for status in SlideStatus},
        "done_in_run": sum(slide.done_in_run for slide in report.slides),
        "reviewed": report.reviewed,
        "unfamiliar": report.unfamiliar,
        "possible_blasts": report.possible_blasts,
        "waiting": [slide.slide for slide in report.slides if slide.status is SlideStatus.WAITING],
        "failed": [
            {
                "slide": slide.slide,
                "status": slide.status.value,
                "errors": [{"field": e.field, "stage": e.stage, "cause": e.cause} for e in slide.errors],
            }
            for slide in report.slides
            if slide.status in FAILURE_STATUSES
        ],
    }


def _format_headline(report: RunReport) -> str:
    """Say when the run was and how it ended."""
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


def _find_live_holder(output: OutputPaths) -> LockHolder | None:
    """Return the live process that executes a run; None if there is none, as while a review is applied."""
    holder = read_holder(output)
    return holder if holder is not None and holder.command == RUN_COMMAND and holder.is_alive() else None


def _describe_holder(holder: LockHolder) -> str:
    """Name the process that executes a run."""
    note = "" if holder.host == platform.node() else ", which cannot be checked from here"
    return f"process {holder.pid} on {holder.host}{note}"


def _read_failure(output: OutputPaths) -> RunFailure | None:
    """Return the note of a failed run, if there is a valid one."""
    try:
        failure = _FAILURE.validate_python(json.loads(output.failure_json.read_bytes()))
    except (OSError, ValueError):
        return None
    return replace(failure, start=failure.start.astimezone(UTC), end=failure.end.astimezone(UTC))

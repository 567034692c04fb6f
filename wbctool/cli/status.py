"""`wbctool status`: what the last run did."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import AsJson, Results
from wbctool.cli.output import echo, echo_error
from wbctool.errors import SettingsInvalid
from wbctool.exit_codes import ExitCode


def status(
    out: Results,
    as_json: AsJson = False,
    max_age: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Exit with 1 if no run has ended within the last HOURS.")
    ] = None,
) -> None:
    """Show when the last run was, what it did, and which slides failed, are waiting or may show blasts.

    Exit codes: that of the last run (0, 3, …); 0 while a run is in progress; 1 if there was no run, the last one was
    killed, or, with --max-age, none has ended in that time, even if one is running.
    """
    with handle_errors():
        raise typer.Exit(_show_status(out, as_json, max_age))


def _show_status(out: Path, as_json: bool, max_age_hours: float | None) -> int:
    """Print the status and return the exit code."""
    from wbctool.paths import OutputPaths
    from wbctool.store.status import RunPhase, format_status_json, format_status_text, read_report

    if max_age_hours is not None and not 0 <= max_age_hours < math.inf:  # false for not-a-number too
        raise SettingsInvalid(f"--max-age: {max_age_hours:g} is not a number of hours")
    report = read_report(OutputPaths.from_path(out))
    echo(format_status_json(report) if as_json else format_status_text(report))
    age = datetime.now(UTC) - (report.end or report.last_end or report.start)
    if max_age_hours is not None and age.total_seconds() > max_age_hours * 3600:
        echo_error(f"no run has ended within the last {max_age_hours:g} hours")
        return ExitCode.FATAL
    if report.phase is RunPhase.RUNNING:
        return ExitCode.DONE
    return ExitCode.FATAL if report.exit_code is None else report.exit_code

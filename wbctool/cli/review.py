"""`wbctool review`: readers' corrections applied to the results, and checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import AsJson, Results
from wbctool.cli.output import echo, echo_error, echo_optional
from wbctool.errors import ReviewRefused
from wbctool.exit_codes import ExitCode
from wbctool.text import display_name, pluralize

review_app = typer.Typer(help="Apply and check readers' reviews.", no_args_is_help=True)


@review_app.command("apply")
def apply_review(
    out: Results,
    reviews: Annotated[
        list[Path], typer.Argument(metavar="REVIEW", help="A review saved by a report, or a folder of them.")
    ],
) -> None:
    """Apply readers' reviews: update the slides' tables and reports, keep the originals, extend the audit log.

    The slide is found by what the file says, not by its name. Of a folder, its .json files are applied, earliest first.
    If a reader saved several reviews of the same results of a slide, only the last is applied; the others are named.

    Exit codes: 0 all applied or superseded; 1 some refused, the others applied; 2 wrong usage; 5 a run is using the
    output.
    """
    with handle_errors():
        raise typer.Exit(_apply_reviews(out, reviews))


@review_app.command("acknowledge")
def acknowledge_review(
    out: Results,
    reader: Annotated[str, typer.Option(metavar="INITIALS", help="Who takes note of it.")],
    slides: Annotated[
        list[str] | None, typer.Argument(metavar="SLIDE", help="Slides as in counts.csv. Default: all.")
    ] = None,
) -> None:
    """Take note that reviews have ended because other cells were found, so that they are no longer listed.

    Exit codes: 0 done; 1 a slide has no review that ended; 2 wrong usage; 5 a run is using the output.
    """
    with handle_errors():
        from wbctool.paths import OutputPaths
        from wbctool.review.acknowledge import acknowledge_ended_reviews

        acknowledged = acknowledge_ended_reviews(OutputPaths.from_path(out), slides or (), reader)
        for slide in acknowledged:
            echo_optional(f"{display_name(slide)}: acknowledged by {display_name(reader)}")
        if not acknowledged:
            echo_optional("no review has ended")


@review_app.command("verify")
def verify_review(out: Results, as_json: AsJson = False) -> None:
    """Check the audit log, and every slide's results against the run and the log.

    Exit codes: 0 all match; 1 otherwise.
    """
    with handle_errors():
        from wbctool.paths import OutputPaths
        from wbctool.review.audit import audit_reviews

        result = audit_reviews(OutputPaths.from_path(out))
        for problem in result.problems:
            echo_error(problem)
        if as_json:
            content = {"schema": "wbctool-review-verify/1", "ok": not result.problems, **asdict(result)}
            echo(json.dumps(content, indent=1))
        if result.problems or as_json:
            raise typer.Exit(ExitCode.FATAL if result.problems else ExitCode.DONE)
        last = f", the last {result.last_sha256}" if result.last_sha256 else ""
        echo(
            f"{pluralize(result.slides, 'slide')}, {result.reviewed} reviewed; "
            f"{pluralize(result.entries, 'line')} in the audit log{last}: all match"
        )


def _apply_reviews(out: Path, reviews: Sequence[Path]) -> int:
    """Apply the reviews, print what each changed, and return the exit code."""
    from wbctool.cli.logging import configure_logging
    from wbctool.paths import OutputPaths
    from wbctool.review.apply import Superseded, apply_reviews, list_review_files

    code = ExitCode.DONE
    with configure_logging(quiet=False, log_file=None):
        for path, outcome in apply_reviews(OutputPaths.from_path(out), list_review_files(reviews)):
            if isinstance(outcome, ReviewRefused):
                code = ExitCode.FATAL
                echo_error(f"{path}: {outcome}")
                continue
            if isinstance(outcome, Superseded):
                echo_optional(f"{path}: not applied, because the same reader saved {outcome.by} later")
                continue
            review, differential = outcome.reviews[-1], outcome.differential
            echo_optional(
                f"{display_name(outcome.slide)}: reviewed by {display_name(review.reader)}, "
                f"{pluralize(review.n_reclassified, 'cell')} moved; "
                f"now {differential.counted} counted, {differential.review} review, {differential.not_wbc} not WBC"
            )
    return code

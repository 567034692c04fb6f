"""`wbctool review`: what was applied, what was refused, and whether the trail holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wbctool.cli.saying import echo, echo_optional
from wbctool.cli.terminal import configure_logging
from wbctool.errors import ReviewRefused
from wbctool.paths import OutputPaths
from wbctool.pipeline.run import ExitCode
from wbctool.review.apply import apply_reviews
from wbctool.review.audit import audit_reviews
from wbctool.text import display_name, pluralize


def apply_reviews_command(out: Path, reviews: Sequence[Path]) -> int:
    """`wbctool review apply`; returns the exit code."""
    refused = 0
    with configure_logging(quiet=False, log_file=None):
        for path, outcome in apply_reviews(OutputPaths.from_path(out), reviews):
            if isinstance(outcome, ReviewRefused):
                refused += 1
                print(f"wbctool: {display_name(str(path))}: {display_name(str(outcome))}", file=sys.stderr)
            else:
                last, differential = outcome.reviews[-1], outcome.differential
                echo_optional(
                    f"{display_name(outcome.slide)}: reviewed by {display_name(last.reader)}, "
                    f"{pluralize(last.n_reclassified, 'cell')} moved; "
                    f"now {differential.counted} counted, {differential.review} review, {differential.not_wbc} not WBC"
                )
    return ExitCode.FATAL if refused else ExitCode.DONE


def verify_reviews_command(out: Path) -> int:
    """`wbctool review verify`; returns the exit code."""
    result = audit_reviews(OutputPaths.from_path(out))
    for problem in result.problems:
        print(f"wbctool: {display_name(problem)}", file=sys.stderr)
    if result.problems:
        return ExitCode.FATAL
    last = f", the last {result.last_sha256}" if result.last_sha256 else ""
    echo(
        f"{pluralize(result.slides, 'slide')}, {result.reviewed} reviewed; "
        f"{pluralize(result.entries, 'line')} in the trail{last}: all match"
    )
    return ExitCode.DONE

"""`wbctool review`: what was applied, what was refused, and whether the trail holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from wbctool.batch.run import ExitCode
from wbctool.cli.saying import mention, say
from wbctool.cli.terminal import logging_set_up
from wbctool.errors import ReviewRefused
from wbctool.lab.review import apply_reviews
from wbctool.lab.review_check import verify_reviews
from wbctool.layout import OutputLayout, name_shown
from wbctool.wording import number_of


def apply_command(out: Path, reviews: Sequence[Path]) -> int:
    """`wbctool review apply`; returns the exit code."""
    refused = 0
    with logging_set_up(quiet=False, log_file=None):
        for path, outcome in apply_reviews(OutputLayout.of(out), reviews):
            if isinstance(outcome, ReviewRefused):
                refused += 1
                print(f"wbctool: {name_shown(str(path))}: {name_shown(str(outcome))}", file=sys.stderr)
            else:
                last, differential = outcome.reviews[-1], outcome.differential
                mention(
                    f"{name_shown(outcome.slide)}: reviewed by {name_shown(last.reader)}, "
                    f"{number_of(last.moved, 'cell')} moved; "
                    f"now {differential.counted} counted, {differential.review} review, {differential.not_wbc} not WBC"
                )
    return ExitCode.FATAL if refused else ExitCode.DONE


def verify_command(out: Path) -> int:
    """`wbctool review verify`; returns the exit code."""
    found = verify_reviews(OutputLayout.of(out))
    for problem in found.problems:
        print(f"wbctool: {name_shown(problem)}", file=sys.stderr)
    if found.problems:
        return ExitCode.FATAL
    last = f", the last {found.last}" if found.last else ""
    say(
        f"{number_of(found.slides, 'slide')}, {found.reviewed} reviewed; "
        f"{number_of(found.entries, 'line')} in the trail{last}: all match"
    )
    return ExitCode.DONE

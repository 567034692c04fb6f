"""The progress of a run or of another long command: a bar on a terminal, otherwise a line a slide."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from wbctool.cli.output import echo, echo_optional
from wbctool.pipeline.plan import Action, PlanItem
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.text import display_name, pluralize, replace_underscores
from wbctool.types.differential import Flag

if TYPE_CHECKING:
    from rich.progress import Progress

_T = TypeVar("_T")
# In the line of a slide, the first first; the numbers in the line tell of the others, or they are on fields.
_SHOWN_FLAGS = (
    *(Flag.POSSIBLE_BLASTS, Flag.IMMATURE_GRANULOCYTES, Flag.NRBC),
    *(Flag.UNFAMILIAR, Flag.OUT_OF_DOMAIN, Flag.NO_WBC),
)
# rich is imported late: it takes 70 ms, and a run without a terminal, as from cron, shows no bar.


class NullProgress:
    """The progress of a quiet run: prints nothing. The base of the others."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Receive what will be done, before the first slide."""

    def field_done(self) -> None:
        """Receive that one more field is done."""

    def track(self, items: Iterable[Any], total: int, description: str) -> Iterable[Any]:  # noqa: ARG002
        """Receive what is worked through within one field: many tiles or cells."""
        return items

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Receive the state of one more slide."""


class LineProgress(NullProgress):
    """A plain line for each slide."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Print the slide's name, status and counts."""
        echo_optional(format_slide_line(outcome, action))


class DryRunProgress(NullProgress):
    """What a dry run would do."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Print a line for each slide, and a summary."""
        for item in plan:
            reviewed = f", reviewed by {', '.join(item.record.readers)}" if item.record and item.record.readers else ""
            noun = "scan" if item.slide.is_scan else "field"
            echo(
                f"{display_name(item.slide.id)}: {item.action}, {pluralize(item.slide.n_fields, noun)}"
                f"{display_name(reviewed)}"
            )
        counts = Counter(str(item.action) for item in plan)
        echo(f"{pluralize(len(plan), 'slide')}: " + ", ".join(f"{n} {action}" for action, n in sorted(counts.items())))


class JsonPlanProgress(NullProgress):
    """What a dry run would do, as JSON."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Print each slide, with what would be done and the number of its fields."""
        slides = [{"slide": item.slide.id, "action": item.action.value, "fields": item.slide.n_fields} for item in plan]
        echo(json.dumps({"schema": "wbctool-run-plan/1", "slides": slides}, indent=1))


class BarProgress(NullProgress):
    """A bar that counts the fields, with a line above it for each slide that was processed.

    A field with many tiles or cells has a bar of its own meanwhile.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("fields", total=None)

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Set the length of the bar."""
        total = sum(item.slide.n_fields for item in plan if item.action is Action.PROCESS)
        self._progress.update(self._task, total=total)

    def field_done(self) -> None:
        """Advance the bar."""
        self._progress.advance(self._task)

    def track(self, items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
        """Show a bar until all items were taken."""
        from rich.markup import escape

        task = self._progress.add_task(escape(display_name(description)), total=total)
        try:
            for item in items:
                yield item
                self._progress.advance(task)
        finally:
            self._progress.remove_task(task)

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Print a line above the bar if the slide was processed."""
        if action is Action.PROCESS:
            line = format_slide_line(outcome, action)
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(quiet: bool, dry_run: bool, as_json: bool = False) -> Iterator[NullProgress]:
    """Choose how to show a run: nothing, a plan, a bar if standard output is a terminal, or lines.

    Args:
        quiet: Whether nothing is shown.
        dry_run: Whether only the plan is shown.
        as_json: Whether standard output is for JSON alone.
    """
    if as_json:
        yield JsonPlanProgress() if dry_run else NullProgress()
    elif quiet:
        yield NullProgress()
    elif dry_run:
        yield DryRunProgress()
    elif sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console()) as progress:
            yield BarProgress(progress)
    else:
        yield LineProgress()


def format_slide_line(outcome: SlideOutcome, action: Action) -> str:
    """Describe a slide in one line.

    >>> from wbctool.types.results import SlideStatus
    >>> format_slide_line(SlideOutcome("ward 3/17", SlideStatus.OK, {}, ()), Action.SKIP)
    'ward 3/17: ok (up to date)'
    """
    line = f"{display_name(outcome.slide)}: {outcome.status.value}"
    if action is not Action.PROCESS:
        return f"{line} ({action})"
    row = outcome.counts
    missing = f" ({row['fields_failed']} failed)" if int(row["fields_failed"]) else ""
    totals = f"{pluralize(int(row['fields']), 'field')}{missing}, {pluralize(int(row['cells']), 'cell')}"
    shown_flags = ", ".join(replace_underscores(flag) for flag in _SHOWN_FLAGS if flag in outcome.flags)
    return (
        f"{line}, {totals}: {row['counted']} counted, {row['review']} review, {row['not_wbc']} not WBC"
        f"{'; ' if shown_flags else ''}{shown_flags}"
    )


def track_progress(items: Iterable[_T], total: int, description: str) -> Iterable[_T]:
    """Show a bar on standard error while items are taken, if that is a terminal.

    Args:
        items: What is worked through.
        total: How many there are.
        description: What is done with them.

    Returns:
        The items.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, escape(description), total, console=console, transient=True, disable=not console.is_terminal)

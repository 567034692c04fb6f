"""A folder of slides: what is to be done, doing it, and the table of all of them."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Protocol

from wbctool.batch.doing import Doer, Here, Work
from wbctool.batch.manifest import Manifest
from wbctool.batch.overview import publish_overview
from wbctool.batch.pipeline import Stopped
from wbctool.batch.places import check_apart, check_table_writable, is_written_to
from wbctool.batch.publish import hold
from wbctool.batch.qc_history import note_qc_slides
from wbctool.batch.runstate import (
    SlideOutcome,
    SlideState,
    files_intact,
    fingerprint,
    read_state,
    slide_basis,
    states_below,
)
from wbctool.batch.seen_files import SeenFiles
from wbctool.batch.slides import find_slides, still_as_found
from wbctool.batch.slides_csv import read_slides_csv
from wbctool.batch.stages import Stages
from wbctool.batch.status import forget_failure
from wbctool.errors import ClusterUnusable, OutputNotWritable
from wbctool.layout import OutputLayout
from wbctool.records import Slide
from wbctool.report.tables import empty_row
from wbctool.settings import RunSettings
from wbctool.slide_facts import SlideMetadata
from wbctool.slide_results import SlideStatus

log = logging.getLogger(__name__)

_BAD = frozenset({SlideStatus.PARTIAL, SlideStatus.FAILED})


class ExitCode(IntEnum):
    """The exit codes of `wbctool run`; 128 + the signal's number where it was stopped."""

    DONE = 0
    FATAL = 1
    USAGE = 2
    SLIDES_FAILED = 3
    NO_IMAGES = 4
    LOCKED = 5


class Action(StrEnum):
    """What a run does with a slide."""

    DO = "to do"
    KEEP = "up to date"
    WAIT = "waiting: just modified"
    UNSEEN = "not looked at"


@dataclass(frozen=True, slots=True)
class Planned:
    """A slide and what is to be done with it. state: its last one, if any, be it up to date or not."""

    slide: Slide
    action: Action
    state: SlideState | None


class Progress(Protocol):
    """Who is told how a run goes on."""

    def planned(self, plan: Sequence[Planned]) -> None:
        """Before the first slide."""

    def field_done(self) -> None:
        """After each field, from the main thread."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """After each slide, done now or kept."""


class StopRequest:
    """Set by a signal's handler; the run then ends after the field at hand."""

    signal: int | None = None

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.signal is not None


def run_folder(
    settings: RunSettings,
    load_stages: Callable[[], Stages],
    argv: Sequence[str],
    progress: Progress,
    stop: StopRequest,
    doer: Doer | None = None,
) -> int:
    """Do every slide that is not up to date, and write the table of all. Returns the exit code.

    doer: who does them; this process if None. Raises SettingsInvalid, SlidesNotFound, OutputLocked, OutputNotWritable,
    and what load_stages and the doer raise.
    """
    layout = OutputLayout(settings.out)
    check_apart(layout, settings)
    slides = find_slides(settings.slides, settings.follow_links, skip=[layout.folder])
    metadata = read_slides_csv(settings.slides, [slide.id for slide in slides])
    if settings.dry_run:
        progress.planned(make_plan(slides, settings, load_stages(), layout, SeenFiles(layout), stop, metadata))
        return ExitCode.DONE
    with hold(layout):
        check_table_writable(layout)
        run = _Run(settings, layout, load_stages(), SeenFiles(layout), progress, stop, metadata, doer or Here())
        return run.go(slides, argv)


def make_plan(
    slides: Sequence[Slide],
    settings: RunSettings,
    stages: Stages,
    layout: OutputLayout,
    seen: SeenFiles,
    stopped: Stopped,
    metadata: Mapping[str, SlideMetadata],
) -> list[Planned]:
    """What is to be done with each slide, in order. Reads states and fields, and writes down what it saw of them.

    metadata: of the slides that slides.csv names.
    """
    plan = []
    for slide in slides:
        state = read_state(layout, slide.id)
        if settings.settle_s and _modified_lately(slide, settings):
            action = Action.WAIT
        elif state is None or slide.problem or _asked_for(settings, state):
            action = Action.DO
        elif stopped():
            action = Action.UNSEEN
        else:
            seen.open(slide.id)
            basis = slide_basis(stages.basis, metadata.get(slide.id))
            current = fingerprint(seen.hash_fields(slide, settings.max_megapixels), basis)
            same = current == state.fingerprint and state.is_settled and files_intact(layout, slide.id, state, seen)
            action = Action.KEEP if same else Action.DO
            if not settings.dry_run:
                seen.save()
        plan.append(Planned(slide, action, state))
        if slide.problem:  # the slides below a folder that cannot be listed are not gone
            found = {planned.slide.id for planned in plan} | {other.id for other in slides}
            for id_, hidden in states_below(layout, slide.id):
                if id_ not in found:
                    plan.append(Planned(Slide(id_, slide.folder, ()), Action.WAIT, hidden))
    return plan


@dataclass(slots=True)
class _Run:
    settings: RunSettings
    layout: OutputLayout
    stages: Stages
    seen: SeenFiles
    progress: Progress
    stop: StopRequest
    metadata: Mapping[str, SlideMetadata]
    doer: Doer
    stopped_by: str | None = None

    def go(self, slides: Sequence[Slide], argv: Sequence[str]) -> int:
        manifest = Manifest(self.layout, self.settings, self.stages, argv)
        manifest.write_start()
        forget_failure(self.layout)
        plan = make_plan(slides, self.settings, self.stages, self.layout, self.seen, self.stop, self.metadata)
        self.progress.planned(plan)
        done: dict[str, SlideOutcome] = {}
        try:
            self._do(plan, done)
        except (OutputNotWritable, ClusterUnusable):
            with suppress(OutputNotWritable):
                self._finish(manifest, plan, done, ExitCode.FATAL)
            raise
        return self._finish(manifest, plan, done)

    def _do(self, plan: list[Planned], done: dict[str, SlideOutcome]) -> None:
        """Fills ``done`` with the slides of this run; a slide that changed since it was planned is left waiting."""
        work = Work(
            self.settings, self.stages, self.layout, self.seen, self.stop, self.progress.field_done, self.metadata
        )
        failed, coming = 0, None
        with closing(self.doer.outcomes(work, self._still_to_do(plan))) as outcomes:
            for index, last in enumerate(plan):
                if last.action is Action.DO and coming is None:
                    coming = next(outcomes, None)
                planned = plan[index]  # it may just have been found to have changed
                if planned.action is not Action.DO:
                    outcome = self._last(planned)
                elif coming is None:
                    if not self.stop():
                        raise RuntimeError(f"slide {planned.slide.id!r} was to be done, and nobody did it")
                    return
                else:
                    outcome, coming = coming, None
                    done[planned.slide.id] = outcome
                    failed += outcome.status is not SlideStatus.OK
                log.info("slide %r: %s, %s", planned.slide.id, outcome.status, planned.action)
                self.progress.slide_done(outcome, planned.action)
                if self.settings.max_failures is not None and failed >= self.settings.max_failures:
                    self.stopped_by = "max_failures"
                    log.error("stopped: slides failed or partial in this run: %d", failed)
                    return

    def _still_to_do(self, plan: list[Planned]) -> Iterator[Slide]:
        """The slides to do, looked at once more when their turn comes; ``plan`` then says which of them wait."""
        for index, planned in enumerate(plan):
            if self.stop():
                return
            if planned.action is Action.DO:
                if self._has_changed(planned.slide):
                    plan[index] = replace(planned, action=Action.WAIT)
                else:
                    yield planned.slide

    def _finish(
        self, manifest: Manifest, plan: Sequence[Planned], done: dict[str, SlideOutcome], code: int | None = None
    ) -> int:
        outcomes = [done.get(planned.slide.id) or self._last(planned) for planned in plan]
        publish_overview(self.layout, outcomes)
        if code is None:
            code = self._exit_code(outcomes)
        note_qc_slides(self.layout, self.settings.qc_slides, outcomes, set(done), self.stages.provenance)
        stopped_by = self.stopped_by if self.stop.signal is None else signal.Signals(self.stop.signal).name
        manifest.write_end(outcomes, set(done), code, stopped_by, self.doer.facts())
        return code

    def _has_changed(self, slide: Slide) -> bool:
        """Whether a slide is no longer as it was when the run began, which may be hours ago."""
        if slide.problem:
            return False
        if self.settings.settle_s and _modified_lately(slide, self.settings):
            return True
        return not still_as_found(slide, self.settings.slides, self.settings.follow_links)

    def _exit_code(self, outcomes: Sequence[SlideOutcome]) -> int:
        if self.stop.signal is not None:
            return 128 + self.stop.signal
        bad = any(outcome.status in _BAD for outcome in outcomes)
        return ExitCode.SLIDES_FAILED if bad else ExitCode.DONE

    def _last(self, planned: Planned) -> SlideOutcome:
        """A slide's last state. One that waits, or was never reached, says so; its earlier numbers stay."""
        slide, state = planned.slide, planned.state
        if state is None:
            row = empty_row(slide.id, SlideStatus.WAITING, len(slide.fields), self.stages.provenance.classes)
            return SlideOutcome(slide.id, SlideStatus.WAITING, row, ())
        last = SlideOutcome.of_state(slide.id, state)
        if planned.action in {Action.KEEP, Action.UNSEEN}:
            return last
        row = (slide.id, SlideStatus.WAITING.value, *state.row[2:])
        return replace(last, status=SlideStatus.WAITING, row=row)


def _asked_for(settings: RunSettings, state: SlideState) -> bool:
    return settings.force or (settings.retry_failed and state.status in _BAD)


def _modified_lately(slide: Slide, settings: RunSettings) -> bool:
    """Whether the slide's folder or a field changed less than settle_s ago.

    By the time of the content, which a clock that runs ahead may put into the future, and by that of the directory's
    entry, because copies keep the time of the content. Not by that of a folder that runs write to: it would wait for
    ever.
    """
    now = time.time()
    folders = () if is_written_to(slide.folder, settings) else (slide.folder,)
    for path in (*folders, *slide.fields):
        with suppress(OSError):
            status = path.stat()
            if abs(now - status.st_mtime) < settings.settle_s or 0 <= now - status.st_ctime < settings.settle_s:
                return True
    return False

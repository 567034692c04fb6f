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

from wbctool.errors import ClusterUnusable, OutputNotWritable
from wbctool.paths import OutputPaths
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.discovery import find_slides, is_unchanged
from wbctool.pipeline.executor import LocalExecutor, RunContext, SlideExecutor
from wbctool.pipeline.pipeline import ShouldStop
from wbctool.pipeline.preflight import check_counts_writable, check_output_location, contains_run_outputs
from wbctool.pipeline.slides_csv import read_slides_csv
from wbctool.qc.history import append_qc_records
from wbctool.report.tables import empty_row
from wbctool.settings import RunSettings
from wbctool.store.counts_table import write_counts_and_index
from wbctool.store.hash_cache import HashCache
from wbctool.store.lock import lock_output
from wbctool.store.run_record import RunRecord, finish_run_record, start_run_record, write_run_record
from wbctool.store.slide_record import (
    SlideOutcome,
    SlideRecord,
    build_slide_cache_key,
    find_slide_record,
    fingerprint,
    iter_records_below,
    outputs_match,
)
from wbctool.store.status import clear_failure
from wbctool.types.cells import Slide
from wbctool.types.results import SlideStatus
from wbctool.types.slides import SlideMetadata

log = logging.getLogger(__name__)

_FAILURE_STATUSES = frozenset({SlideStatus.PARTIAL, SlideStatus.FAILED})


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

    PROCESS = "to do"
    SKIP = "up to date"
    DEFER = "waiting: just modified"
    NOT_CHECKED = "not looked at"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """A slide and what is to be done with it. record: its last one, if any, be it up to date or not."""

    slide: Slide
    action: Action
    record: SlideRecord | None


class Progress(Protocol):
    """Who is told how a run goes on."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
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
    load_stages: Callable[[], BoundStages],
    argv: Sequence[str],
    progress: Progress,
    stop_request: StopRequest,
    executor: SlideExecutor | None = None,
) -> int:
    """Do every slide that is not up to date, and write the table of all. Returns the exit code.

    executor: who does them; this process if None. Raises SettingsInvalid, SlidesNotFound, OutputLocked, OutputNotWritable,
    and what load_stages and the doer raise.
    """
    layout = OutputPaths(settings.out)
    check_output_location(layout, settings)
    slides = find_slides(settings.slides, settings.follow_links, skip=[layout.folder])
    metadata = read_slides_csv(settings.slides, [slide.id for slide in slides])
    if settings.dry_run:
        progress.plan_ready(
            make_plan(slides, settings, load_stages(), layout, HashCache(layout), stop_request, metadata)
        )
        return ExitCode.DONE
    with lock_output(layout):
        check_counts_writable(layout)
        run = _FolderRun(
            settings,
            layout,
            load_stages(),
            HashCache(layout),
            progress,
            stop_request,
            metadata,
            executor or LocalExecutor(),
        )
        return run.execute(slides, argv)


def make_plan(
    slides: Sequence[Slide],
    settings: RunSettings,
    stages: BoundStages,
    layout: OutputPaths,
    hash_cache: HashCache,
    should_stop: ShouldStop,
    metadata: Mapping[str, SlideMetadata],
) -> list[PlanItem]:
    """What is to be done with each slide, in order. Reads states and fields, and writes down what it saw of them.

    metadata: of the slides that slides.csv names.
    """
    plan = []
    for slide in slides:
        record = find_slide_record(layout, slide.id)
        if settings.settle_s and _is_recently_modified(slide, settings):
            action = Action.DEFER
        elif record is None or slide.problem or _is_reprocess_requested(settings, record):
            action = Action.PROCESS
        elif should_stop():
            action = Action.NOT_CHECKED
        else:
            hash_cache.load_slide(slide.id)
            cache_key = build_slide_cache_key(stages.cache_key, metadata.get(slide.id))
            current_fingerprint = fingerprint(hash_cache.hash_fields(slide, settings.max_megapixels), cache_key)
            is_current = (
                current_fingerprint == record.fingerprint
                and record.is_deterministic
                and outputs_match(layout, record, hash_cache)
            )
            action = Action.SKIP if is_current else Action.PROCESS
            if not settings.dry_run:
                hash_cache.flush()
        plan.append(PlanItem(slide, action, record))
        if slide.problem:  # the slides below a folder that cannot be listed are not gone
            known_ids = {item.slide.id for item in plan} | {other.id for other in slides}
            plan += [
                PlanItem(Slide(hidden.slide, slide.folder, ()), Action.DEFER, hidden)
                for hidden in iter_records_below(layout, slide.id)
                if hidden.slide not in known_ids
            ]
    return plan


@dataclass(slots=True)
class _FolderRun:
    settings: RunSettings
    layout: OutputPaths
    stages: BoundStages
    hash_cache: HashCache
    progress: Progress
    stop_request: StopRequest
    metadata: Mapping[str, SlideMetadata]
    executor: SlideExecutor
    stopped_by: str | None = None

    def execute(self, slides: Sequence[Slide], argv: Sequence[str]) -> int:
        run_record = start_run_record(self.settings, self.stages.provenance, self.stages.device_message, argv)
        write_run_record(self.layout, run_record)
        clear_failure(self.layout)
        plan = make_plan(
            slides, self.settings, self.stages, self.layout, self.hash_cache, self.stop_request, self.metadata
        )
        self.progress.plan_ready(plan)
        processed: dict[str, SlideOutcome] = {}
        try:
            self._process_slides(plan, processed)
        except (OutputNotWritable, ClusterUnusable):
            with suppress(OutputNotWritable):
                self._finish(run_record, plan, processed, ExitCode.FATAL)
            raise
        return self._finish(run_record, plan, processed)

    def _process_slides(self, plan: list[PlanItem], processed: dict[str, SlideOutcome]) -> None:
        """Fills ``processed`` with the slides of this run; a slide that changed since it was planned is left waiting."""
        context = RunContext(
            self.settings,
            self.stages,
            self.layout,
            self.hash_cache,
            self.stop_request,
            self.progress.field_done,
            self.metadata,
        )
        n_failed, next_outcome = 0, None
        with closing(self.executor.process_slides(context, self._pending_slides(plan))) as outcomes:
            for index, planned_item in enumerate(plan):
                if planned_item.action is Action.PROCESS and next_outcome is None:
                    next_outcome = next(outcomes, None)
                item = plan[index]  # it may just have been found to have changed
                if item.action is not Action.PROCESS:
                    outcome = self._last_outcome(item)
                elif next_outcome is None:
                    if not self.stop_request():
                        raise RuntimeError(f"slide {item.slide.id!r} was to be done, and nobody did it")
                    return
                else:
                    outcome, next_outcome = next_outcome, None
                    processed[item.slide.id] = outcome
                    n_failed += outcome.status is not SlideStatus.OK
                log.info("slide %r: %s, %s", item.slide.id, outcome.status, item.action)
                self.progress.slide_done(outcome, item.action)
                if self.settings.max_failures is not None and n_failed >= self.settings.max_failures:
                    self.stopped_by = "max_failures"
                    log.error("stopped: slides failed or partial in this run: %d", n_failed)
                    return

    def _pending_slides(self, plan: list[PlanItem]) -> Iterator[Slide]:
        """The slides to do, looked at once more when their turn comes; ``plan`` then says which of them wait."""
        for index, item in enumerate(plan):
            if self.stop_request():
                return
            if item.action is Action.PROCESS:
                if self._has_changed(item.slide):
                    plan[index] = replace(item, action=Action.DEFER)
                else:
                    yield item.slide

    def _finish(
        self,
        run_record: RunRecord,
        plan: Sequence[PlanItem],
        processed: dict[str, SlideOutcome],
        code: int | None = None,
    ) -> int:
        outcomes = [processed.get(item.slide.id) or self._last_outcome(item) for item in plan]
        write_counts_and_index(self.layout, outcomes)
        if code is None:
            code = self._select_exit_code(outcomes)
        append_qc_records(self.layout, self.settings.qc_slides, outcomes, set(processed), self.stages.provenance)
        stopped_by = (
            self.stopped_by if self.stop_request.signal is None else signal.Signals(self.stop_request.signal).name
        )
        batch_sizes, cluster = self.stages.batch_sizes(), self.executor.describe().get("cluster")
        ended = finish_run_record(run_record, outcomes, set(processed), code, stopped_by, batch_sizes, cluster)
        write_run_record(self.layout, ended)
        return code

    def _has_changed(self, slide: Slide) -> bool:
        """Whether a slide is no longer as it was when the run began, which may be hours ago."""
        if slide.problem:
            return False
        if self.settings.settle_s and _is_recently_modified(slide, self.settings):
            return True
        return not is_unchanged(slide, self.settings.slides, self.settings.follow_links)

    def _select_exit_code(self, outcomes: Sequence[SlideOutcome]) -> int:
        if self.stop_request.signal is not None:
            return 128 + self.stop_request.signal
        any_failed = any(outcome.status in _FAILURE_STATUSES for outcome in outcomes)
        return ExitCode.SLIDES_FAILED if any_failed else ExitCode.DONE

    def _last_outcome(self, item: PlanItem) -> SlideOutcome:
        """A slide's last state. One that waits, or was never reached, says so; its earlier numbers stay."""
        slide, record = item.slide, item.record
        if record is None:
            row = empty_row(slide.id, SlideStatus.WAITING, len(slide.fields), self.stages.provenance.classes)
            return SlideOutcome(slide.id, SlideStatus.WAITING, row, ())
        outcome = SlideOutcome.from_record(record)
        if item.action in {Action.SKIP, Action.NOT_CHECKED}:
            return outcome
        row = (slide.id, SlideStatus.WAITING.value, *record.row[2:])
        return replace(outcome, status=SlideStatus.WAITING, row=row)


def _is_reprocess_requested(settings: RunSettings, record: SlideRecord) -> bool:
    return settings.force or (settings.retry_failed and record.status in _FAILURE_STATUSES)


def _is_recently_modified(slide: Slide, settings: RunSettings) -> bool:
    """Whether the slide's folder or a field changed less than settle_s ago.

    By the time of the content, which a clock that runs ahead may put into the future, and by that of the directory's
    entry, because copies keep the time of the content. Not by that of a folder that runs write to: it would wait for
    ever.
    """
    now = time.time()
    folders = () if contains_run_outputs(slide.folder, settings) else (slide.folder,)
    for path in (*folders, *slide.fields):
        with suppress(OSError):
            stat = path.stat()
            if abs(now - stat.st_mtime) < settings.settle_s or 0 <= now - stat.st_ctime < settings.settle_s:
                return True
    return False

"""A run over a folder of slides: plan, process, and write the table of all slides."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from wbctool.errors import ClusterUnusable, OutputNotWritable
from wbctool.exit_codes import ExitCode
from wbctool.notices import list_names, log_notice
from wbctool.paths import OutputPaths
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.discovery import find_slides
from wbctool.pipeline.executor import SlideExecutor
from wbctool.pipeline.plan import Action, PlanItem, describe_kept, describe_reprocessed, has_changed, make_plan
from wbctool.pipeline.preflight import check_output_location, check_slide_folders, check_tables_writable
from wbctool.pipeline.rerender import rerender_slides
from wbctool.pipeline.slides_csv import read_slides_csv
from wbctool.qc.history import append_qc_records, is_qc_slide
from wbctool.report.csv_tables import empty_row
from wbctool.settings import RunSettings
from wbctool.store.counts_table import write_counts_and_index
from wbctool.store.drift import find_drift
from wbctool.store.ended_reviews import EndedReview, describe_ended_reviews, find_ended_reviews
from wbctool.store.lock import lock_output
from wbctool.store.run_record import RunRecord, find_last_end, finish_run_record, start_run_record, write_run_record
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.store.status import clear_failure
from wbctool.text import display_name
from wbctool.types.cells import Slide
from wbctool.types.results import FAILURE_STATUSES, SlideStatus

log = logging.getLogger(__name__)


class RunProgress(Protocol):
    """Shows how a run goes on. Its methods but ``track`` are called in the main thread."""

    def plan_ready(self, plan: Sequence[PlanItem]) -> None:
        """Show the plan, before the first slide."""

    def field_done(self) -> None:
        """Count one field."""

    def track(self, items: Iterable[Any], total: int, description: str) -> Iterable[Any]:
        """Show how many of a field's tiles or cells have been taken, in any thread."""

    def slide_done(self, outcome: SlideOutcome, action: Action) -> None:
        """Show one slide, processed now or up to date."""


class StopRequest:
    """A request to stop, set by the handler of a signal; the run then ends after the current field.

    Attributes:
        signal: The signal's number; None if there was none.
    """

    signal: int | None = None

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.signal is not None


def run_folder(
    settings: RunSettings,
    executor: SlideExecutor,
    argv: Sequence[str],
    progress: RunProgress,
    stop_request: StopRequest,
    now: Callable[[], float] = time.time,
) -> int:
    """Process every slide that is not up to date, and write the table of all slides.

    Args:
        settings: The settings of the run.
        executor: Processes the slides. It loads the models once the paths of the output have been checked.
        argv: The command line, for run.json.
        progress: Shows how the run goes on.
        stop_request: Asks the run to stop.
        now: Returns the Unix time in seconds.

    Returns:
        The exit code.

    Raises:
        SettingsInvalid: The output would overwrite other files, or slides.csv is invalid.
        SlidesNotFound: There is no image.
        OutputLocked: Another run or a review holds this output.
        OutputNotWritable: The output cannot be written.
        WbctoolError: What the executor raises.
    """
    output = OutputPaths.from_out(settings.out)
    check_output_location(output, settings)
    notices: list[str] = []

    def notify(notice: str) -> None:
        notices.append(notice)
        log_notice(notice)

    slides = find_slides(settings.slides, settings.follow_links, [output.folder], notify)
    check_slide_folders(output, slides)
    metadata = read_slides_csv(settings.slides, [slide.id for slide in slides], notify)

    def make_context() -> RunContext:
        return RunContext(settings, executor.load(), metadata, stop_request, progress.field_done, progress.track, now)

    if settings.dry_run:
        progress.plan_ready(make_plan(slides, make_context()))
        return ExitCode.DONE
    is_new_folder = not os.path.lexists(output.counts_csv.parent)  # pathlib's raises for a name that is too long
    with lock_output(output):
        if is_new_folder:
            log.info("the folder %s did not exist and was created; is a share not mounted?", output.counts_csv.parent)
        check_tables_writable(output)
        run = _FolderRun(make_context(), progress, stop_request, executor, notices)
        return run.execute(slides, argv)


@dataclass(slots=True)
class _FolderRun:
    """One run that holds the lock of its output.

    Attributes:
        context: The settings, the models and what slides.csv says.
        progress: Shows the progress.
        stop_request: Says whether the run is to stop.
        executor: Processes the slides.
        notices: What a laboratory must know about the run's input, so far.
        stopped_by: The setting that stopped the run; None if none did.
    """

    context: RunContext
    progress: RunProgress
    stop_request: StopRequest
    executor: SlideExecutor
    notices: list[str]
    stopped_by: str | None = None

    def execute(self, slides: Sequence[Slide], argv: Sequence[str]) -> int:
        """Plan the run, process its slides and write its tables; return the exit code."""
        models = self.context.models
        self._note_missing_qc_slides(slides)
        run_record = start_run_record(
            self.context.settings,
            models.provenance,
            models.device_message,
            argv,
            self.notices,
            find_last_end(self.context.output),
        )
        write_run_record(self.context.output, run_record)
        clear_failure(self.context.output)
        plan = make_plan(slides, self.context)
        if reprocessed := describe_reprocessed(plan, self.context):
            log_notice(reprocessed)  # about this run: neither the index page nor the next run repeats it
        if kept := describe_kept(plan):
            self._notify(kept)
        processed: dict[str, SlideOutcome] = {}
        try:
            plan = rerender_slides(plan, self.context, self._notify)
            self.progress.plan_ready(plan)
            self._process_slides(plan, processed)
        except (OutputNotWritable, ClusterUnusable):
            with suppress(OutputNotWritable):
                self._finish(run_record, plan, processed, ExitCode.FATAL)
            raise
        return self._finish(run_record, plan, processed)

    def _note_missing_qc_slides(self, slides: Sequence[Slide]) -> None:
        """Note the entries of the setting qc_slides that name no slide."""
        ids = [slide.id for slide in slides]
        if missing := [p for p in self.context.settings.qc_slides if not any(is_qc_slide(id_, [p]) for id_ in ids)]:
            self._notify(f"no slide is named as the setting qc_slides says: {list_names(missing)}")

    def _note_overlaps(self, outcomes: Sequence[SlideOutcome]) -> None:
        """Note the slides whose fields overlap."""
        overlapping = [outcome for outcome in outcomes if outcome.repeated_cells]
        if overlapping:
            n_cells = sum(outcome.repeated_cells for outcome in overlapping)
            names = list_names([display_name(outcome.slide) for outcome in overlapping])
            cells = "1 cell is on two fields and was" if n_cells == 1 else f"{n_cells} cells are on two fields and were"
            self._notify(f"overlapping fields: {cells} counted once; slides: {names}")

    def _notify(self, notice: str) -> None:
        """Add a notice, and log it."""
        self.notices.append(notice)
        log_notice(notice)

    def _process_slides(self, plan: Sequence[PlanItem], processed: dict[str, SlideOutcome]) -> None:
        """Fill ``processed``. The slides that have changed since the plan was made are left for the next run."""
        max_failures = self.context.settings.max_failures
        n_failed, next_outcome = 0, None
        deferred: set[str] = set()
        with closing(self.executor.process_slides(self.context, self._pending_slides(plan, deferred))) as outcomes:
            for item in plan:
                if item.action is Action.PROCESS and next_outcome is None:
                    next_outcome = next(outcomes, None)  # of a later slide if this one is deferred
                action = Action.DEFER if item.slide.id in deferred else item.action
                if action is not Action.PROCESS:
                    outcome = self._last_outcome(item)
                elif next_outcome is None:
                    if not self.stop_request():
                        raise RuntimeError(f"slide {item.slide.id!r} was planned, and the executor left it out")
                    return
                else:
                    outcome, next_outcome = next_outcome, None
                    processed[item.slide.id] = outcome
                    n_failed += outcome.status is not SlideStatus.OK
                for notice in outcome.notices:
                    log_notice(notice)
                log.info("slide %r: %s, %s", item.slide.id, outcome.status, action)
                self.progress.slide_done(outcome, action)
                if max_failures is not None and n_failed >= max_failures:
                    self.stopped_by = "max_failures"
                    log.error("stopped: slides failed or partial in this run: %d", n_failed)
                    return

    def _pending_slides(self, plan: Sequence[PlanItem], deferred: set[str]) -> Iterator[Slide]:
        """Yield the slides to process. The id of one that has changed since the plan was made goes to ``deferred``."""
        for item in plan:
            if self.stop_request():
                return
            if item.action is Action.PROCESS:
                if has_changed(item.slide, self.context.settings, self.context.now):
                    deferred.add(item.slide.id)
                else:
                    yield item.slide

    def _finish(
        self,
        run_record: RunRecord,
        plan: Sequence[PlanItem],
        processed: dict[str, SlideOutcome],
        code: int | None = None,
    ) -> int:
        """Write the table, the index page, the QC history and run.json; return the exit code."""
        output = self.context.output
        outcomes = [processed.get(item.slide.id) or self._last_outcome(item) for item in plan]
        ended_reviews = find_ended_reviews(output)
        notices = self._collect_notices(outcomes, ended_reviews)
        write_counts_and_index(output, outcomes, notices, ended_reviews)
        if code is None:
            code = self._select_exit_code(outcomes)
        qc_slides = self.context.settings.qc_slides
        append_qc_records(output, qc_slides, outcomes, set(processed), self.context.models.provenance)
        number = self.stop_request.signal
        stopped_by = self.stopped_by if number is None else signal.Signals(number).name
        batch_sizes, cluster = self.context.models.batch_sizes(), self.executor.describe_cluster()
        ended = finish_run_record(run_record, outcomes, set(processed), code, stopped_by, batch_sizes, cluster, notices)
        write_run_record(output, ended)
        return code

    def _collect_notices(self, outcomes: Sequence[SlideOutcome], ended_reviews: Mapping[str, EndedReview]) -> list[str]:
        """Return the notices of the run and of its slides; those that only its end tells are logged now."""
        ended = describe_ended_reviews([ended_reviews[o.slide] for o in outcomes if o.slide in ended_reviews])
        for notice in ended:
            log_notice(notice)
        self._note_overlaps(outcomes)
        notices = [*self.notices, *(notice for outcome in outcomes for notice in outcome.notices), *ended]
        drift = find_drift(self.context.output, [outcome.slide for outcome in outcomes])
        if drift is not None and drift.has_wandered:
            notices.append(drift.sentence)
            log_notice(drift.sentence)
        return notices

    def _select_exit_code(self, outcomes: Sequence[SlideOutcome]) -> int:
        """Return the exit code of a run that wrote its table."""
        if self.stop_request.signal is not None:
            return 128 + self.stop_request.signal
        any_failed = any(outcome.status in FAILURE_STATUSES for outcome in outcomes)
        return ExitCode.NEEDS_ATTENTION if any_failed else ExitCode.DONE

    def _last_outcome(self, item: PlanItem) -> SlideOutcome:
        """Return a slide's last outcome; one that must still be processed is waiting, and keeps its earlier numbers."""
        slide, record = item.slide, item.record
        if record is None:
            classes = self.context.models.provenance.classes
            counts = empty_row(slide.id, SlideStatus.WAITING, slide.n_fields, classes)
            return SlideOutcome(slide.id, SlideStatus.WAITING, counts, ())
        outcome = SlideOutcome.from_record(record)
        if item.action in {Action.SKIP, Action.KEEP, Action.RENDERED, Action.NOT_CHECKED}:
            return outcome
        counts = {**record.counts, "status": SlideStatus.WAITING.value}
        return replace(outcome, status=SlideStatus.WAITING, counts=counts)

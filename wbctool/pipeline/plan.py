"""The plan of a run: which slides it processes, and why it leaves the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from wbctool.notices import list_names
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.discovery import is_unchanged
from wbctool.pipeline.preflight import contains_run_outputs
from wbctool.settings import RunSettings
from wbctool.store.fingerprint import compute_fingerprints, has_same_cells
from wbctool.store.hash_cache import FieldHashes, HashCache
from wbctool.store.slide_record import SlideRecord, find_slide_record, iter_records_below, outputs_match
from wbctool.text import display_name, pluralize
from wbctool.types.cells import Slide
from wbctool.types.results import FAILURE_STATUSES


class Action(StrEnum):
    """What a run does with a slide.

    PROCESS: look at its images, because these, or what their results depend on, are new or have changed.
    RENDER: render its tables and report again; only limits or metadata have changed, such as an accession.
    RENDERED: its tables and report were rendered again.
    SKIP: nothing; its results are up to date.
    KEEP: keep the results of earlier models, because a reader has reviewed the slide and its images have not changed
        since; limits and metadata are brought up to date.
    DEFER: leave it to a later run; it was modified just now and may not be complete, or its folder cannot be listed.
    NOT_CHECKED: nothing; the run was asked to stop before the slide was compared with its results.
    """

    PROCESS = "to do"
    RENDER = "to do: tables and report"
    RENDERED = "tables and report updated"
    SKIP = "up to date"
    KEEP = "reviewed: results of earlier models kept"
    DEFER = "waiting: just modified"
    NOT_CHECKED = "not looked at"


@dataclass(frozen=True, slots=True)
class PlanItem:
    """A slide and what the run does with it.

    Attributes:
        slide: The slide.
        action: What the run does with it.
        record: The slide's last record, up to date or not; None if it has none.
    """

    slide: Slide
    action: Action
    record: SlideRecord | None


def make_plan(slides: Sequence[Slide], context: RunContext) -> list[PlanItem]:
    """Decide what to do with each slide.

    The records and, if their size or times changed, the fields and result files are read. Their hashes are saved for
    the next run, except in a dry run.

    Args:
        slides: The slides that were found.
        context: The run.

    Returns:
        One item per slide, in order. After a folder that cannot be listed follow the slides that an earlier run found
        below it: their results stay.
    """
    hash_cache = context.make_hash_cache()
    ids = {slide.id for slide in slides}
    plan = []
    for slide in slides:
        record = find_slide_record(context.output, slide.id)
        plan.append(PlanItem(slide, _choose_action(slide, record, context, hash_cache), record))
        if slide.problem:
            hidden = list(_iter_hidden_slides(slide, context, ids))
            ids.update(item.slide.id for item in hidden)
            plan += hidden
    return plan


def describe_reprocessed(plan: Sequence[PlanItem], context: RunContext) -> str:
    """Return a notice on the slides that are processed again because the models are others; empty if there are none.

    Args:
        plan: The plan, before anything is processed.
        context: The run. An option that asks for all slides is cause enough.
    """
    models = context.models.provenance.models
    n_again = sum(
        item.action is Action.PROCESS and item.record is not None and item.record.provenance.models != models
        for item in plan
    )
    if not n_again or context.settings.force:
        return ""
    return f"{pluralize(n_again, 'slide')} processed again: their results are of other models"


def describe_kept(plan: Sequence[PlanItem]) -> str:
    """Return a notice on the reviewed slides whose results are of earlier models; empty if there are none."""
    kept = [display_name(item.slide.id) for item in plan if item.action is Action.KEEP]
    if not kept:
        return ""
    return (
        f"{pluralize(len(kept), 'reviewed slide')} with results of earlier models kept: {list_names(kept)}; "
        "--redo-reviewed processes them again"
    )


def has_changed(slide: Slide, settings: RunSettings, now: Callable[[], float]) -> bool:
    """Return whether a slide is no longer as it was found, or has just been modified.

    Args:
        slide: The slide as it was found when the run began, which may be hours ago.
        settings: The settings of the run.
        now: Returns the Unix time in seconds.
    """
    if slide.problem:
        return False
    return _is_recently_modified(slide, settings, now) or not is_unchanged(
        slide, settings.slides, settings.follow_links
    )


def _iter_hidden_slides(slide: Slide, context: RunContext, known_ids: set[str]) -> Iterator[PlanItem]:
    """Yield the slides that earlier runs found below a folder that can no longer be listed."""
    for record in iter_records_below(context.output, slide.id):
        if record.slide not in known_ids:
            yield PlanItem(Slide(record.slide, slide.folder, ()), Action.DEFER, record)


def _choose_action(slide: Slide, record: SlideRecord | None, context: RunContext, hash_cache: HashCache) -> Action:
    """Choose what to do with one slide."""
    if _is_recently_modified(slide, context.settings, context.now):
        return Action.DEFER
    is_requested = record is not None and _is_reprocess_requested(context.settings, record)
    if record is None or slide.problem or (is_requested and not record.reviews):
        return Action.PROCESS
    if context.should_stop():
        return Action.NOT_CHECKED
    hash_cache.load_slide(slide.id)
    action = _compare(slide, record, context, hash_cache, is_requested)
    if not context.settings.dry_run:
        hash_cache.flush()
    return action


def _compare(
    slide: Slide, record: SlideRecord, context: RunContext, hash_cache: HashCache, is_requested: bool
) -> Action:
    """Choose what to do with a slide by comparing its results with those that processing it again would give.

    Args:
        slide: The slide.
        record: Its last record.
        context: The run.
        hash_cache: The hashes of its files.
        is_requested: Whether an option asks to process it again, which ends no review that models alone would end.
    """
    fields = hash_cache.hash_fields(slide, context.settings.max_megapixels)
    cache_key, metadata = context.cache_key_for(slide.is_scan), context.metadata.get(slide.id)
    if _is_kept(record, fields, context) and outputs_match(context.output, record, hash_cache):
        return Action.KEEP
    if is_requested or not record.is_deterministic:
        return Action.PROCESS
    if compute_fingerprints(fields, cache_key, metadata).results == record.fingerprint:
        return Action.SKIP if outputs_match(context.output, record, hash_cache) else Action.PROCESS
    # Results of schema version 1 have no thumbnails to render a report with.
    can_render = record.has_thumbnails and has_same_cells(record, fields, cache_key, metadata)
    return Action.RENDER if can_render else Action.PROCESS


def _is_kept(record: SlideRecord, fields: FieldHashes, context: RunContext) -> bool:
    """Return whether a slide is reviewed, and its images are the same but the models are not."""
    if not record.reviews or context.settings.redo_reviewed:
        return False
    return record.source_hashes == fields and record.provenance.models != context.models.provenance.models


def _is_reprocess_requested(settings: RunSettings, record: SlideRecord) -> bool:
    """Return whether an option asks to process the slide again."""
    return settings.force or (settings.retry_failed and record.status in FAILURE_STATUSES)


def _is_recently_modified(slide: Slide, settings: RunSettings, now: Callable[[], float]) -> bool:
    """Return whether the slide's folder or a field was changed less than ``settle_s`` ago."""
    if not settings.settle_s:
        return False
    time_s = now()
    # A run writes its outputs into this folder, so by the folder's own time such a slide would wait for ever.
    folders = () if contains_run_outputs(slide.folder, settings) else (slide.folder,)
    for path in (*folders, *slide.fields):
        with suppress(OSError):
            stat = path.stat()
            # mtime may lie in the future, by a clock that runs ahead. Copies keep mtime, so ctime counts too.
            if abs(time_s - stat.st_mtime) < settings.settle_s or 0 <= time_s - stat.st_ctime < settings.settle_s:
                return True
    return False

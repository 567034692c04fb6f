"""Slides whose limits or metadata have changed, but not their cells: tables and reports are rendered again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from wbctool.limits import RENDERING_LIMITS
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.plan import Action, PlanItem
from wbctool.store.fingerprint import Fingerprints, compute_fingerprints
from wbctool.store.publish import render_again
from wbctool.store.slide_record import SlideRecord
from wbctool.text import display_name
from wbctool.types.slides import SlideMetadata

log = logging.getLogger(__name__)


def rerender_slides(plan: Sequence[PlanItem], context: RunContext, notify: Callable[[str], None]) -> list[PlanItem]:
    """Render the slides of a plan whose limits or metadata have changed, but not their cells.

    Args:
        plan: The plan of the run.
        context: The run, which holds the output's lock.
        notify: Takes notice of a reviewed slide that could not be brought up to date.

    Returns:
        The plan with what is left to do: a slide whose cells or reviews cannot be read back is processed; if the run is
        stopped, the rest stays as it was planned.

    Raises:
        OutputNotWritable: The output cannot be written.
    """
    rerendered = []
    for item in plan:
        if item.action is Action.RENDER:
            rerendered.append(_render(item, context))
        elif item.action is Action.KEEP:
            rerendered.append(_update_kept(item, context, notify))
        else:
            rerendered.append(item)
    return rerendered


def _render(item: PlanItem, context: RunContext) -> PlanItem:
    """Render one slide."""
    assert item.record is not None
    if context.should_stop():
        return item
    try:
        record = _render_record(item.record, context)
    except (ValueError, KeyError) as error:  # of our own files, which may be damaged
        log.info("slide %r is processed again: its results cannot be read back: %s", item.slide.id, error)
        return replace(item, action=Action.PROCESS)
    return replace(item, action=Action.RENDERED, record=record)


def _render_record(record: SlideRecord, context: RunContext) -> SlideRecord:
    """Render a slide with the limits and the metadata of now; what found its cells stays what it was."""
    slide = record.slide
    metadata, provenance = context.metadata.get(slide), context.provenance_for(slide, record.scan is not None)
    return render_again(
        context.output,
        record,
        replace(record.provenance, settings=provenance.settings, reference_source=provenance.reference_source),
        context.limits_for(slide),
        metadata,
        compute_fingerprints(record.source_hashes, context.cache_key_for(record.scan is not None), metadata),
    )


def _update_kept(item: PlanItem, context: RunContext, notify: Callable[[str], None]) -> PlanItem:
    """Bring a reviewed slide up to date whose results are of earlier models; whatever happens, its review stays."""
    assert item.record is not None
    if context.should_stop():
        return item
    try:
        return replace(item, record=_update_kept_record(item.record, context))
    except (ValueError, KeyError) as error:
        notify(f"slide {display_name(item.slide.id)!r}: its line of slides.csv and the limits are not applied: {error}")
        return item


def _update_kept_record(record: SlideRecord, context: RunContext) -> SlideRecord:
    """Bring the limits and metadata of a slide up to date whose results are of earlier models.

    Its scale stays, by which its cells were measured, and the fingerprint of its cells, by which later runs see that
    these are of earlier models. That of its results is gone: they are those of no run.
    """
    rendering = context.limits_for(record.slide).model_dump(include=set(RENDERING_LIMITS))
    limits = record.limits.model_copy(update=rendering)
    scale = record.metadata.um_per_px if record.metadata is not None else None
    metadata: SlideMetadata | None = replace(context.metadata.get(record.slide) or SlideMetadata(), um_per_px=scale)
    if metadata == SlideMetadata():
        metadata = None
    if (limits, metadata) == (record.limits, record.metadata):
        return record
    fingerprints = Fingerprints.of_record(record)
    if fingerprints.cells:
        fingerprints = replace(fingerprints, results="")
    provenance = context.provenance_for(record.slide, record.scan is not None)
    settings = dict(record.provenance.settings) | {
        name: value for name, value in provenance.settings if name in RENDERING_LIMITS
    }
    return render_again(
        context.output,
        record,
        replace(record.provenance, settings=tuple(settings.items()), reference_source=provenance.reference_source),
        limits,
        metadata,
        fingerprints,
    )

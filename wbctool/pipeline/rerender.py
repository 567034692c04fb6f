"""Slides whose limits or metadata have changed, but not their cells: tables and reports are rendered again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from wbctool.limits import RENDERING_LIMITS
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.plan import Action, PlanItem
from wbctool.store.fingerprint import Fingerprints, compute_fingerprints
from wbctool.store.publish import render_again
from wbctool.store.slide_record import SlideRecord
from wbctool.types.slides import SlideMetadata

log = logging.getLogger(__name__)


def rerender_slides(plan: Sequence[PlanItem], context: RunContext) -> list[PlanItem]:
    """Render the slides of a plan whose limits or metadata have changed, but not their cells.

    Args:
        plan: The plan of the run.
        context: The run, which holds the output's lock.

    Returns:
        The plan with what is left to do: a slide whose cells or reviews cannot be read back is processed; if the run is
        stopped, the rest stays as it was planned.

    Raises:
        OutputNotWritable: The output cannot be written.
    """
    return [_render(item, context) if item.action in {Action.RENDER, Action.KEEP} else item for item in plan]


def _render(item: PlanItem, context: RunContext) -> PlanItem:
    """Render one slide; a reviewed one whose results are of earlier models stays one."""
    assert item.record is not None
    if context.should_stop():
        return item
    try:
        if item.action is Action.KEEP:
            return replace(item, record=_update_kept(item.record, context))
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
        context.layout,
        record,
        replace(record.provenance, settings=provenance.settings, reference_source=provenance.reference_source),
        context.limits_for(slide),
        metadata,
        compute_fingerprints(record.source_hashes, context.cache_key_for(record.scan is not None), metadata),
    )


def _update_kept(record: SlideRecord, context: RunContext) -> SlideRecord:
    """Bring the limits and metadata of a slide up to date whose results are of earlier models.

    Its fingerprints stay, so that later runs see that its results are of earlier models, and so does its scale, by
    which they were measured.
    """
    rendering = context.limits_for(record.slide).model_dump(include=set(RENDERING_LIMITS))
    limits = record.limits.model_copy(update=rendering)
    scale = record.metadata.um_per_px if record.metadata is not None else None
    metadata: SlideMetadata | None = replace(context.metadata.get(record.slide) or SlideMetadata(), um_per_px=scale)
    if metadata == SlideMetadata():
        metadata = None
    if (limits, metadata) == (record.limits, record.metadata):
        return record
    provenance = context.provenance_for(record.slide, record.scan is not None)
    settings = dict(record.provenance.settings) | {
        name: value for name, value in provenance.settings if name in RENDERING_LIMITS
    }
    return render_again(
        context.layout,
        record,
        replace(record.provenance, settings=tuple(settings.items()), reference_source=provenance.reference_source),
        limits,
        metadata,
        Fingerprints.of_record(record),
    )

"""Slides of which only limits or metadata have changed: their tables and reports are rendered again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from wbctool.pipeline.context import RunContext
from wbctool.pipeline.plan import Action, PlanItem
from wbctool.store.fingerprint import compute_fingerprints
from wbctool.store.publish import render_again
from wbctool.store.slide_record import SlideRecord

log = logging.getLogger(__name__)


def rerender_slides(plan: Sequence[PlanItem], context: RunContext) -> list[PlanItem]:
    """Render the slides of a plan of which only limits or metadata have changed.

    Args:
        plan: The plan of the run.
        context: The run, which holds the output's lock.

    Returns:
        The plan with what is left to do: a slide whose cells or reviews cannot be read back is processed; if the run is
        stopped, the rest stays as it was planned.

    Raises:
        OutputNotWritable: The output cannot be written.
    """
    return [_render(item, context) if item.action is Action.RENDER else item for item in plan]


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
        context.layout,
        record,
        replace(record.provenance, settings=provenance.settings, reference_source=provenance.reference_source),
        context.limits_for(slide),
        metadata,
        compute_fingerprints(record.source_hashes, context.cache_key_for(record.scan is not None), metadata),
    )

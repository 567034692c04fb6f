"""The files of one slide: made from its result, and published with its state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from wbctool.batch import trail
from wbctool.batch.runstate import FieldHashes, SlideState, publish_slide, read_state, remove_originals
from wbctool.layout import CELLS, DIFFERENTIAL, REPORT, OutputLayout
from wbctool.records import Provenance, SlideResult
from wbctool.report.facts import slide_facts
from wbctool.report.html import render_report
from wbctool.report.tables import cells_csv, counts_row, differential_csv
from wbctool.settings import Limits


def render_files(result: SlideResult, provenance: Provenance) -> dict[str, bytes]:
    """The content of a slide's files but ``slide.json``, by name."""
    texts = {
        DIFFERENTIAL: differential_csv(result.differential),
        CELLS: cells_csv(result.slide, result.cells, provenance.classes),
        REPORT: render_report(result, provenance),
    }
    return {name: text.encode() for name, text in texts.items()}


def file_hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def publish_result(
    layout: OutputLayout,
    result: SlideResult,
    provenance: Provenance,
    limits: Limits,
    fields: FieldHashes,
    fingerprint: str,
) -> SlideState:
    """Publish what a run found of a slide. A review of what was there before is void then, and the trail says so."""
    files = render_files(result, provenance)
    state = SlideState(
        fingerprint=fingerprint,
        status=result.status,
        row=counts_row(result),
        failures=result.failures,
        files=file_hashes(files),
        limits=limits,
        provenance=provenance,
        facts=slide_facts(result),
    )
    before = read_state(layout, result.slide)
    if before is not None and before.reviews:
        trail.note_redone(layout, result.slide)
    publish_slide(layout, result.slide, files, state, fields)
    if before is not None and before.reviews:
        remove_originals(layout, result.slide)
    return state

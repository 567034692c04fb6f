"""The files of one slide: made from its result, here or on a cluster's worker, and published with its state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from wbctool.batch import trail
from wbctool.batch.runstate import SlideState, is_reviewed, publish_slide, remove_originals
from wbctool.batch.seen_files import FieldHashes
from wbctool.layout import CELLS, DIFFERENTIAL, REPORT, OutputLayout
from wbctool.report.facts import slide_facts
from wbctool.report.html import render_report
from wbctool.report.tables import cells_csv, counts_row, differential_csv
from wbctool.settings import Limits
from wbctool.slide_results import Provenance, SlideResult


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """All that is published of a slide. files: by name, but ``slide.json``, which is made of state and fields."""

    slide: str
    files: Mapping[str, bytes]
    state: SlideState
    fields: FieldHashes


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


def make_files(
    result: SlideResult, provenance: Provenance, limits: Limits, fields: FieldHashes, fingerprint: str
) -> SlideFiles:
    """What is to be published of a slide."""
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
    return SlideFiles(result.slide, files, state, fields)


def publish_files(layout: OutputLayout, made: SlideFiles) -> None:
    """Publish what a run found of a slide. A review of what was there before is void then, and the trail says so."""
    was_reviewed = is_reviewed(layout, made.slide)
    if was_reviewed:
        trail.note_redone(layout, made.slide)
    publish_slide(layout, made.slide, made.files, made.state, made.fields)
    if was_reviewed:
        remove_originals(layout, made.slide)

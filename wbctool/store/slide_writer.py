"""The files of one slide: made from its result, here or on a cluster's worker, and published with its state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, REPORT_HTML, OutputPaths
from wbctool.report.html import render_report
from wbctool.report.tables import cells_csv, counts_row, differential_csv
from wbctool.settings import Limits
from wbctool.store import audit_log
from wbctool.store.hash_cache import FieldHashes
from wbctool.store.slide_facts import build_details
from wbctool.store.slide_record import SlideRecord, delete_originals, is_reviewed, publish_slide
from wbctool.types.results import Provenance, SlideResult


@dataclass(frozen=True, slots=True)
class SlideFiles:
    """All that is published of a slide. files: by name, but ``slide.json``, which is made of state and fields."""

    slide: str
    files: Mapping[str, bytes]
    record: SlideRecord
    fields: FieldHashes


def render_files(result: SlideResult, provenance: Provenance) -> dict[str, bytes]:
    """The content of a slide's files but ``slide.json``, by name."""
    texts = {
        DIFFERENTIAL_CSV: differential_csv(result.differential),
        CELLS_CSV: cells_csv(result.slide, result.cells, provenance.classes),
        REPORT_HTML: render_report(result, provenance),
    }
    return {name: text.encode() for name, text in texts.items()}


def hash_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def make_files(
    result: SlideResult, provenance: Provenance, limits: Limits, fields: FieldHashes, fingerprint: str
) -> SlideFiles:
    """What is to be published of a slide."""
    files = render_files(result, provenance)
    record = SlideRecord(
        fingerprint=fingerprint,
        status=result.status,
        row=counts_row(result),
        failures=result.failures,
        files=hash_files(files),
        limits=limits,
        provenance=provenance,
        details=build_details(result),
    )
    return SlideFiles(result.slide, files, record, fields)


def publish_files(layout: OutputPaths, slide_files: SlideFiles) -> None:
    """Publish what a run found of a slide. A review of what was there before is void then, and the trail says so."""
    was_reviewed = is_reviewed(layout, slide_files.slide)
    if was_reviewed:
        audit_log.log_reprocessed(layout, slide_files.slide)
    publish_slide(layout, slide_files.slide, slide_files.files, slide_files.record, slide_files.fields)
    if was_reviewed:
        delete_originals(layout, slide_files.slide)

"""Publishing what a run made of a slide around the reviews that it has: they stay as long as its cells do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from wbctool.errors import ReviewedSlideUnreadable, ReviewRefused
from wbctool.limits import Limits
from wbctool.paths import ORIGINAL_PREFIX, SLIDE_JSON, OutputPaths
from wbctool.store import audit_log
from wbctool.store.audit_log import AuditEntry
from wbctool.store.fingerprint import Fingerprints
from wbctool.store.replay import (
    OriginalResult,
    find_reviews,
    read_original_files,
    read_result,
    replay_reviews,
    reviewed_cells_sha256,
)
from wbctool.store.slide_record import SlideRecord, find_slide_record, format_slide_record
from wbctool.store.slide_writer import (
    ORIGINAL_FILES,
    SlideFiles,
    render_slide_files,
    write_slide_files,
)
from wbctool.types.results import Provenance, Review
from wbctool.types.slides import SlideMetadata


def publish_with_reviews(output: OutputPaths, slide_files: SlideFiles) -> SlideRecord:
    """Publish what a run found on a slide.

    If the cells are those that were reviewed, the reviews are applied to the new files. Otherwise they no longer hold,
    and the audit log says so.

    Args:
        output: The output, whose lock the caller holds.
        slide_files: The slide's files without any review.

    Returns:
        The record that was published.

    Raises:
        OutputNotWritable: A file cannot be written.
        AuditLogCorrupt: The slide was reviewed and the audit log is damaged.
        ReviewedSlideUnreadable: A field of a reviewed slide could not be read; the reviewed results stay.
    """
    slide = slide_files.record.slide
    was_reviewed = False
    if is_set_aside(output, slide) or audit_log.mentions(output, slide):
        entries, record = audit_log.read_audit_log(output), find_slide_record(output, slide)
        try:
            reviews = find_reviews(entries, slide, record)
            reviewed_files = _apply_reviews(slide_files, reviews, entries)
        except ReviewRefused:
            was_reviewed = True
        else:
            if reviewed_files is not None:
                write_slide_files(output, reviewed_files.files, reviewed_files.record)
                return reviewed_files.record
            if record is not None and record.reviews:
                _check_readable(slide_files.record, record)
            was_reviewed = bool(reviews) or (record is None and is_set_aside(output, slide))
    if was_reviewed:
        audit_log.log_review_ended(output, slide)
    write_slide_files(output, slide_files.files, slide_files.record)
    for name in ORIGINAL_FILES:
        with suppress(OSError):
            output.slide_file(slide, ORIGINAL_PREFIX + name).unlink()
    return slide_files.record


def render_again(
    output: OutputPaths,
    record: SlideRecord,
    provenance: Provenance,
    limits: Limits,
    metadata: SlideMetadata | None,
    fingerprints: Fingerprints,
) -> SlideRecord:
    """Render and publish a slide's tables and report with other limits or metadata; cells and reviews stay.

    Args:
        output: The output, whose lock the caller holds.
        record: The slide's record; it has thumbnails.
        provenance: What made the results, with the settings of now.
        limits: The slide's limits.
        metadata: The slide's line of slides.csv, if it has one.
        fingerprints: The hashes of what the result depends on now.

    Returns:
        The record that was published.

    Raises:
        ReviewRefused: The cells or the reviews cannot be read back.
        AuditLogCorrupt: The slide is reviewed and the audit log is damaged.
        OutputNotWritable: A file cannot be written.
    """
    slide = record.slide
    is_reviewed = bool(record.reviews) or is_set_aside(output, slide)
    entries = audit_log.read_audit_log(output) if is_reviewed else ()
    reviews = find_reviews(entries, slide, record)
    _, files = read_original_files(output, record)
    record = replace(record, provenance=provenance, limits=limits, metadata=metadata)
    original = OriginalResult(files, record, read_result(files, record))
    if reviews and original.cells_sha256 != reviewed_cells_sha256(reviews, entries):
        raise ReviewRefused(f"slide {slide!r}: the cells are not those that were reviewed")
    result = replay_reviews(original, reviews, entries)
    rendered = render_slide_files(result, record, fingerprints)
    write_slide_files(output, rendered.files, rendered.record)
    return rendered.record


def is_set_aside(output: OutputPaths, slide: str) -> bool:
    """Return whether a review was applied, or was about to be: the originals then lie beside the slide's files."""
    return os.path.exists(output.slide_file(slide, ORIGINAL_PREFIX + SLIDE_JSON))  # noqa: PTH110, raises of no long path


def _check_readable(record: SlideRecord, reviewed: SlideRecord) -> None:
    """Raise ReviewedSlideUnreadable if a reviewed field cannot be read any more, as on a share that is not mounted."""
    known = {name for name, sha256 in reviewed.source_hashes if sha256 is not None}
    if unread := [name for name, sha256 in record.source_hashes if sha256 is None and name in known]:
        raise ReviewedSlideUnreadable(
            f"{unread[0]!r} cannot be read now; the slide's reviewed results stay, and the next run tries again"
        )


def _apply_reviews(
    slide_files: SlideFiles, reviews: Sequence[Review], entries: Sequence[AuditEntry]
) -> SlideFiles | None:
    """Return a slide's files after its reviews, with the originals beside them; None if they do not hold.

    Raises:
        ReviewRefused: The audit log does not fit the cells.
    """
    files, record = slide_files.files, slide_files.record
    if not reviews:
        return None
    originals = {**files, SLIDE_JSON: format_slide_record(record)}
    original = OriginalResult(originals, record, read_result(files, record))
    if original.cells_sha256 != reviewed_cells_sha256(reviews, entries):
        return None
    result = replay_reviews(original, reviews, entries)
    rendered = render_slide_files(result, record, Fingerprints.of_record(record))
    set_aside = {ORIGINAL_PREFIX + name: originals[name] for name in ORIGINAL_FILES}
    return SlideFiles({**files, **set_aside, **rendered.files}, rendered.record)

"""`wbctool review acknowledge`: someone takes note that reviews have ended, so that nothing lists them any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wbctool.errors import ReviewRefused
from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import encode_csv_name
from wbctool.review.overview import publish_overview, validate_initials
from wbctool.store import audit_log
from wbctool.store.audit_log import AuditEvent
from wbctool.store.ended_reviews import EndedReview, find_ended_reviews
from wbctool.store.lock import lock_output
from wbctool.store.run_record import is_results


def acknowledge_ended_reviews(output: OutputPaths, slides: Sequence[str], reader: str) -> list[str]:
    """Note in the audit log that someone knows that reviews have ended; then bring index.html up to date.

    Args:
        output: The output.
        slides: The slides, by id or as counts.csv writes them; none for all whose reviews have ended.
        reader: The initials of who acknowledges it.

    Returns:
        The ids of the slides.

    Raises:
        ReviewRefused: The output holds no results, a slide has no ended review, or the initials do not print. Nothing
            is then acknowledged.
        OutputLocked: Another process holds the output.
        AuditLogCorrupt: The audit log is damaged.
        OutputNotWritable: A file cannot be written.
    """
    if not is_results(output.folder):
        raise ReviewRefused(f"{output.folder} contains no results of a run")
    try:
        validate_initials(reader)
    except ValueError as error:
        raise ReviewRefused(f"--reader: {error}") from error
    with lock_output(output, "review acknowledge"):
        audit_log.read_audit_log(output)  # a damaged log would look as if no review had ended
        ended = find_ended_reviews(output)
        ids = [_find_slide(name, ended) for name in dict.fromkeys(slides)] if slides else list(ended)
        applied = audit_log.utc_timestamp()
        common = {"event": AuditEvent.ACKNOWLEDGED, "reader": reader, "applied": applied}
        if ids:
            audit_log.append_entries(output, [{**common, "slide": slide} for slide in ids])
            publish_overview(output, {})
    return ids


def _find_slide(name: str, ended: Mapping[str, EndedReview]) -> str:
    """Return the id of a slide whose review has ended."""
    for slide in ended:
        if name in {slide, encode_csv_name(slide)}:
            return slide
    known = ", ".join(repr(slide) for slide in ended) or "none"
    raise ReviewRefused(f"slide {name!r} has no review that ended; those that have: {known}")

"""Reviews that ended because a run found other cells on the slide: listed until someone reviews or acknowledges it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from wbctool.errors import AuditLogCorrupt
from wbctool.notices import list_names
from wbctool.paths import OutputPaths
from wbctool.store.audit_log import AuditEntry, AuditEvent, read_audit_log
from wbctool.store.slide_record import find_slide_record

log = logging.getLogger(__name__)

_MAX_LINES = 10
_ONE, _MANY = "review ended: ", "reviews ended: "
_ADVICE = "review again, or take note with `wbctool review acknowledge`"


@dataclass(frozen=True, slots=True)
class EndedReview:
    """A slide whose reviews ended.

    Attributes:
        slide: The slide's id.
        readers: Who had reviewed it; nobody if the audit log was lost.
        time: When a run ended them, ISO 8601.
    """

    slide: str
    readers: tuple[str, ...]
    time: str

    @property
    def sentence(self) -> str:
        """What a run says of it, without a period."""
        by = f" by {', '.join(self.readers)}" if self.readers else ""
        return f"{_ONE}slide {self.slide!r}, reviewed{by}, has other cells since a later run; {_ADVICE}"


def find_ended_reviews(output: OutputPaths) -> Mapping[str, EndedReview]:
    """Return the slides whose reviews ended and that nobody has reviewed or acknowledged since, by id.

    A damaged audit log is an error in the log of the run, and gives none.
    """
    try:
        entries = read_audit_log(output)
    except AuditLogCorrupt as error:
        log.error("%s", error)  # noqa: TRY400
        return {}
    histories: dict[str, _History] = {}
    for entry in entries:
        histories.setdefault(entry.slide, _History()).add(entry)
    ended = {
        slide: EndedReview(slide, tuple(history.readers), history.ended_at)
        for slide, history in histories.items()
        if history.ended_at
    }
    return {slide: review for slide, review in ended.items() if not _is_reviewed(output, slide)}


def describe_ended_reviews(ended: Sequence[EndedReview]) -> list[str]:
    """Return notices of ended reviews: one for each slide, or for many slides one that names the first of them."""
    if len(ended) <= _MAX_LINES:
        return [review.sentence for review in ended]
    names = list_names([repr(review.slide) for review in ended])
    return [f"{_MANY}{len(ended)} reviewed slides have other cells since a later run: {names}; {_ADVICE}"]


def update_notices(notices: Sequence[str], ended: Mapping[str, EndedReview], slides: Collection[str]) -> list[str]:
    """Return notices of a run with the reviews that are ended now in place of those that were ended then.

    Args:
        notices: What run.json has.
        ended: The reviews that are ended now.
        slides: The slides that may be named.
    """
    others = [notice for notice in notices if not notice.startswith((_ONE, _MANY))]
    return others + describe_ended_reviews([ended[slide] for slide in slides if slide in ended])


@dataclass(slots=True)
class _History:
    """What the log says of one slide.

    Attributes:
        readers: The readers of its reviews, in order.
        ended_at: When its reviews ended; empty while they hold, or if it has none.
    """

    readers: dict[str, None] = field(default_factory=dict)
    ended_at: str = ""
    _is_closed: bool = False

    def add(self, entry: AuditEntry) -> None:
        """Take in the next entry."""
        if entry.event == AuditEvent.REVIEW:
            if self._is_closed:
                self.readers = {}
            self.readers[str(entry.content["reader"])] = None
            self.ended_at, self._is_closed = "", False
        elif entry.event == AuditEvent.REVIEW_ENDED:
            self.ended_at, self._is_closed = str(entry.content["applied"]), True
        elif entry.event == AuditEvent.ACKNOWLEDGED:
            self.ended_at, self._is_closed = "", True


def _is_reviewed(output: OutputPaths, slide: str) -> bool:
    """Return whether a slide is reviewed after all: the run that was to end its review may have been killed."""
    record = find_slide_record(output, slide)
    return record is not None and bool(record.reviews)

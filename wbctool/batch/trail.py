"""The audit trail: what readers did to the results of a run, one JSON object a line, never changed, only added to.

One file for all slides of an output, so that its chain holds together what is in different folders, and outlives the
folder of any one of them. Each line carries the SHA-256 of the line before it; a slide's ``slide.json`` names the lines
of its reviews, so that a trail that was cut short is found out too. Only for the holder of the output's lock.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wbctool.batch.publish import sync_folder
from wbctool.errors import OutputNotWritable, TrailBroken
from wbctool.layout import OutputLayout

log = logging.getLogger(__name__)

REVIEW, CELL, REDONE = "review", "cell", "redone"  # the events
_START = "0" * 64  # what the first line has for the hash of the line before it


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. number: counts from 1. sha256: of the line, without its end."""

    number: int
    sha256: str
    content: Mapping[str, Any]

    @property
    def event(self) -> str:
        """CELL: what a reader did to a cell; REVIEW: closes the cells of a review; REDONE: a run did the slide anew."""
        return str(self.content["event"])

    @property
    def slide(self) -> str:
        """The slide it is about."""
        return str(self.content["slide"])


def read_trail(layout: OutputLayout) -> tuple[Entry, ...]:
    """Every entry, in order; none where there is no trail. Raises TrailBroken where a line does not follow the last."""
    try:
        lines = layout.audit.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise TrailBroken(f"{layout.audit} cannot be read: {error.strerror or error}") from error
    entries, before = [], _START
    for number, line in enumerate(lines[:-1], start=1):
        try:
            content = json.loads(line)
            follows = content["previous"] == before and {"event", "slide"} <= content.keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            follows = False
        if not follows:
            raise TrailBroken(f"{layout.audit}: line {number} does not follow from the line before it")
        before = hashlib.sha256(line).hexdigest()
        entries.append(Entry(number, before, content))
    return tuple(entries)


def append_entries(layout: OutputLayout, contents: Sequence[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Add lines, on the disk when this returns. Raises TrailBroken, and then adds nothing, or OutputNotWritable."""
    known = read_trail(layout)
    before, lines, added = known[-1].sha256 if known else _START, [], []
    for number, content in enumerate(contents, start=len(known) + 1):
        line = json.dumps({**content, "previous": before}).encode("ascii")
        before = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
        added.append(Entry(number, before, json.loads(line)))
    try:
        with layout.audit.open("ab") as file:
            _drop_torn_line(file.fileno(), layout)
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(layout.audit.parent)  # the trail may be new
    except OSError as error:
        raise OutputNotWritable(f"{layout.audit} cannot be written: {error.strerror or error}") from error
    return tuple(added)


def note_redone(layout: OutputLayout, slide: str) -> None:
    """A run is about to replace the results of a reviewed slide: the review does not hold for the new ones."""
    log.warning("slide %r: processed again, so its review no longer applies; the audit trail keeps it", slide)
    append_entries(layout, [{"event": REDONE, "slide": slide, "applied": now()}])


def now() -> str:
    """The time as the trail has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _drop_torn_line(descriptor: int, layout: OutputLayout) -> None:
    """A power cut may leave half a line. Nothing was made of it: results change only after a line that is whole."""
    content = layout.audit.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s: dropped an incomplete last line, left by an interrupted write", layout.audit)
        os.ftruncate(descriptor, whole)

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

from wbctool.errors import AuditLogCorrupt, OutputNotWritable
from wbctool.paths import OutputPaths
from wbctool.store.atomic_write import sync_folder

log = logging.getLogger(__name__)

REVIEW, CELL, REPROCESSED = "review", "cell", "redone"  # the events
_INITIAL_SHA256 = "0" * 64  # what the first line has for the hash of the line before it


@dataclass(frozen=True, slots=True)
class AuditEntry:
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


def read_audit_log(layout: OutputPaths) -> tuple[AuditEntry, ...]:
    """Every entry, in order; none where there is no trail. Raises AuditLogCorrupt where a line does not follow the last."""
    try:
        lines = layout.audit_jsonl.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise AuditLogCorrupt(f"{layout.audit_jsonl} cannot be read: {error.strerror or error}") from error
    entries, previous_sha256 = [], _INITIAL_SHA256
    for number, line in enumerate(lines[:-1], start=1):
        try:
            content = json.loads(line)
            is_chained = content["previous"] == previous_sha256 and {"event", "slide"} <= content.keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            is_chained = False
        if not is_chained:
            raise AuditLogCorrupt(f"{layout.audit_jsonl}: line {number} does not follow from the line before it")
        previous_sha256 = hashlib.sha256(line).hexdigest()
        entries.append(AuditEntry(number, previous_sha256, content))
    return tuple(entries)


def append_entries(layout: OutputPaths, contents: Sequence[Mapping[str, Any]]) -> tuple[AuditEntry, ...]:
    """Add lines, on the disk when this returns. Raises AuditLogCorrupt, and then adds nothing, or OutputNotWritable."""
    existing = read_audit_log(layout)
    previous_sha256, lines, added = existing[-1].sha256 if existing else _INITIAL_SHA256, [], []
    for number, content in enumerate(contents, start=len(existing) + 1):
        line = json.dumps({**content, "previous": previous_sha256}).encode("ascii")
        previous_sha256 = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
        added.append(AuditEntry(number, previous_sha256, json.loads(line)))
    try:
        with layout.audit_jsonl.open("ab") as file:
            _truncate_partial_line(file.fileno(), layout)
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(layout.audit_jsonl.parent)  # the trail may be new
    except OSError as error:
        raise OutputNotWritable(f"{layout.audit_jsonl} cannot be written: {error.strerror or error}") from error
    return tuple(added)


def log_reprocessed(layout: OutputPaths, slide: str) -> None:
    """A run is about to replace the results of a reviewed slide: the review does not hold for the new ones."""
    log.warning("slide %r: processed again, so its review no longer applies; the audit trail keeps it", slide)
    append_entries(layout, [{"event": REPROCESSED, "slide": slide, "applied": utc_timestamp()}])


def utc_timestamp() -> str:
    """The time as the trail has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _truncate_partial_line(descriptor: int, layout: OutputPaths) -> None:
    """A power cut may leave half a line. Nothing was made of it: results change only after a line that is whole."""
    content = layout.audit_jsonl.read_bytes()
    complete_length = content.rfind(b"\n") + 1
    if complete_length < len(content):
        log.warning("%s: dropped an incomplete last line, left by an interrupted write", layout.audit_jsonl)
        os.ftruncate(descriptor, complete_length)

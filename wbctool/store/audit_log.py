"""The audit log: what readers did to the results of a run, one JSON object a line, only ever appended to.

There is one log for all slides of an output, so that it outlives any slide's folder. Each line holds the SHA-256 of the
line before it, and a slide's ``slide.json`` names the lines of its reviews, by which a shortened log is found.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from wbctool.errors import AuditLogCorrupt
from wbctool.paths import OutputPaths
from wbctool.store.atomic_write import raise_not_writable, sync_folder

log = logging.getLogger(__name__)

_INITIAL_SHA256 = "0" * 64  # the "previous" of the first line


class AuditEvent(StrEnum):
    """What happened, by the names in the log."""

    CELL = "cell"
    """A reader changed a cell."""
    REVIEW = "review"
    """A review; the lines of its cells come right before it."""
    REVIEW_ENDED = "redone"
    """A run found other cells, so that earlier reviews of the slide no longer hold."""
    ACKNOWLEDGED = "acknowledged"
    """Someone has taken note of that."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line.

    Attributes:
        number: Its number, from 1.
        sha256: The hash of the line without its end.
        content: Its JSON object.
    """

    number: int
    sha256: str
    content: Mapping[str, Any]

    @property
    def event(self) -> str:
        """What happened, an :class:`AuditEvent`; another text if a later version of wbctool wrote the line."""
        return str(self.content["event"])

    @property
    def slide(self) -> str:
        """The slide's id."""
        return str(self.content["slide"])


def read_audit_log(output: OutputPaths) -> tuple[AuditEntry, ...]:
    """Return every entry, in order; none if there is no log.

    Raises:
        AuditLogCorrupt: The log cannot be read, or a line does not follow from the line before it.
    """
    try:
        lines = output.audit_jsonl.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise AuditLogCorrupt(f"{output.audit_jsonl} cannot be read: {error.strerror or error}") from error
    entries, previous_sha256 = [], _INITIAL_SHA256
    for number, line in enumerate(lines[:-1], start=1):
        try:
            content = json.loads(line)
            is_chained = content["previous"] == previous_sha256 and {"event", "slide"} <= content.keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            is_chained = False
        if not is_chained:
            raise AuditLogCorrupt(f"{output.audit_jsonl}: line {number} does not follow from the line before it")
        previous_sha256 = hashlib.sha256(line).hexdigest()
        entries.append(AuditEntry(number, previous_sha256, content))
    return tuple(entries)


def append_entries(output: OutputPaths, contents: Sequence[Mapping[str, Any]]) -> tuple[AuditEntry, ...]:
    """Append lines, which are on the disk when this returns. Only for the holder of the output's lock.

    Args:
        output: The output.
        contents: The JSON object of each line, without ``previous``.

    Returns:
        The new entries.

    Raises:
        AuditLogCorrupt: The log is damaged; nothing is appended.
        OutputNotWritable: The log cannot be written.
    """
    existing = read_audit_log(output)
    previous_sha256, lines, added = existing[-1].sha256 if existing else _INITIAL_SHA256, [], []
    for number, content in enumerate(contents, start=len(existing) + 1):
        line = json.dumps({**content, "previous": previous_sha256}).encode("ascii")
        previous_sha256 = hashlib.sha256(line).hexdigest()
        lines.append(line + b"\n")
        added.append(AuditEntry(number, previous_sha256, json.loads(line)))
    with raise_not_writable(output.audit_jsonl):
        with output.audit_jsonl.open("ab") as file:
            _truncate_partial_line(file.fileno(), output)
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(output.audit_jsonl.parent)  # the log may be new
    return tuple(added)


def mentions(output: OutputPaths, slide: str) -> bool:
    """Return whether the log has an entry of a slide; False if it cannot be read. Faster than parsing the log."""
    try:
        return b'"slide": ' + json.dumps(slide).encode("ascii") in output.audit_jsonl.read_bytes()
    except OSError:
        return False


def log_review_ended(output: OutputPaths, slide: str) -> None:
    """Note that a run is about to replace the cells of a reviewed slide, so that its reviews no longer hold.

    Raises:
        AuditLogCorrupt: The log is damaged; nothing is appended.
        OutputNotWritable: The log cannot be written.
    """
    log.info("slide %r: other cells were found, so its review no longer holds; the audit log keeps it", slide)
    append_entries(output, [{"event": AuditEvent.REVIEW_ENDED, "slide": slide, "applied": utc_timestamp()}])


def utc_timestamp() -> str:
    """Return the time now, as the log has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _truncate_partial_line(descriptor: int, output: OutputPaths) -> None:
    """Drop half a line that a power cut left; no results were changed by it, as they follow only a whole line."""
    content = output.audit_jsonl.read_bytes()
    complete_length = content.rfind(b"\n") + 1
    if complete_length < len(content):
        log.warning("%s: dropped an incomplete last line, left by an interrupted write", output.audit_jsonl)
        os.ftruncate(descriptor, complete_length)

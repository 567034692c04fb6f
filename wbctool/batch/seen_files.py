"""The content hashes of files that were seen before, so that an hourly run need not read them again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wbctool.batch.publish import publish_json
from wbctool.errors import FieldUnreadable
from wbctool.layout import SEEN, OutputLayout
from wbctool.records import Slide
from wbctool.stages.images import read_image_bytes

_CLOCK_GRAIN_NS = 2_000_000_000  # a file younger than this may change again without its time changing

FieldHashes = tuple[tuple[str, str | None], ...]
Stamp = tuple[int, int, int]


class SeenFiles:
    """The content hashes of files by their size and times on disk, so that an hourly run need not read them again.

    The fields of a slide and its results; their names cannot be the same, as results do not end like images. Kept in
    ``.seen.json`` of each slide's results, read slide by slide; a lost one costs time alone.
    """

    def __init__(self, layout: OutputLayout) -> None:
        self._layout = layout
        self._slide = ""
        self._known: dict[str, list[Any]] = {}
        self._now: dict[str, list[Any]] = {}

    def open(self, slide: str) -> None:
        """Turn to a slide."""
        self._slide, self._now = slide, {}
        try:
            self._known = dict(json.loads(self._layout.slide_file(slide, SEEN).read_bytes()))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def save(self) -> None:
        """Write down what was noted of the slide at hand, if it has results and something is new."""
        path = self._layout.slide_file(self._slide, SEEN)
        if self._now and self._now != self._known and path.parent.is_dir():
            publish_json(path, self._now)

    def hash_fields(self, slide: Slide, max_megapixels: float) -> FieldHashes:
        """The name and the content's hash of every field, read only where size or times have changed."""

        def read(path: Path) -> bytes:
            return read_image_bytes(path, max_megapixels)

        return tuple((path.name, self.hash_file(path, read)) for path in slide.fields)

    def note(self, name: str, stamp: Stamp, sha256: str) -> None:
        """Remember a file, unless it is so new that its times would not betray another change."""
        if time.time_ns() - max(stamp[1:]) > _CLOCK_GRAIN_NS:
            self._now[name] = [*stamp, sha256]

    def hash_file(self, path: Path, read: Callable[[Path], bytes]) -> str | None:
        """The SHA-256 of a file of the slide at hand; None if unreadable. ``read`` where its size or times changed."""
        try:
            stamp = stamp_of(path)
            known = self._known.get(path.name)
            if isinstance(known, list) and len(known) == 4 and tuple(known[:3]) == stamp:
                self._now[path.name] = known
                return str(known[3])
            sha256 = hashlib.sha256(read(path)).hexdigest()
        except (OSError, FieldUnreadable):
            return None
        self.note(path.name, stamp, sha256)
        return sha256


def stamp_of(path: Path) -> Stamp:
    """Size, and the times of the last change of content and of anything, in ns."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns

"""The content hashes of files that were seen before, so that an hourly run need not read them again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wbctool.errors import FieldUnreadable
from wbctool.imaging.reader import read_image_bytes
from wbctool.paths import HASH_CACHE_JSON, OutputPaths
from wbctool.store.atomic_write import write_json_atomic
from wbctool.types.cells import Slide

_CLOCK_GRAIN_NS = 2_000_000_000  # a file younger than this may change again without its time changing

FieldHashes = tuple[tuple[str, str | None], ...]
FileStat = tuple[int, int, int]


class HashCache:
    """The content hashes of files by their size and times on disk, so that an hourly run need not read them again.

    The fields of a slide and its results; their names cannot be the same, as results do not end like images. Kept in
    ``.seen.json`` of each slide's results, read slide by slide; a lost one costs time alone.
    """

    def __init__(self, layout: OutputPaths, now: Callable[[], float] = time.time) -> None:
        self._layout, self._now = layout, now
        self._slide = ""
        self._stored: dict[str, list[Any]] = {}
        self._current: dict[str, list[Any]] = {}

    def load_slide(self, slide: str) -> None:
        """Turn to a slide."""
        self._slide, self._current = slide, {}
        try:
            self._stored = dict(json.loads(self._layout.slide_file(slide, HASH_CACHE_JSON).read_bytes()))
        except (OSError, ValueError, TypeError):
            self._stored = {}

    def flush(self) -> None:
        """Write down what was noted of the slide at hand, if it has results and something is new."""
        path = self._layout.slide_file(self._slide, HASH_CACHE_JSON)
        if self._current and self._current != self._stored and path.parent.is_dir():
            write_json_atomic(path, self._current)

    def hash_fields(self, slide: Slide, max_megapixels: float) -> FieldHashes:
        """The name and the content's hash of every field, read only where size or times have changed."""

        def read(path: Path) -> bytes:
            return read_image_bytes(path, max_megapixels)

        return tuple((path.name, self.hash_file(path, read)) for path in slide.fields)

    def remember(self, name: str, file_stat: FileStat, sha256: str) -> None:
        """Remember a file, unless it is so new that its times would not betray another change."""
        if self._now() * 1e9 - max(file_stat[1:]) > _CLOCK_GRAIN_NS:
            self._current[name] = [*file_stat, sha256]

    def hash_file(self, path: Path, read: Callable[[Path], bytes]) -> str | None:
        """The SHA-256 of a file of the slide at hand; None if unreadable. ``read`` where its size or times changed."""
        try:
            file_stat = get_file_stat(path)
            entry = self._stored.get(path.name)
            if isinstance(entry, list) and len(entry) == 4 and tuple(entry[:3]) == file_stat:
                self._current[path.name] = entry
                return str(entry[3])
            sha256 = hashlib.sha256(read(path)).hexdigest()
        except (OSError, FieldUnreadable):
            return None
        self.remember(path.name, file_stat, sha256)
        return sha256


def get_file_stat(path: Path) -> FileStat:
    """Size, and the times of the last change of content and of anything, in ns."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

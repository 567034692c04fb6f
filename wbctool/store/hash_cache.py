"""A cache of content hashes, keyed by each file's size and times, so that an hourly run need not read files again."""

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
"""Name and SHA-256 of each field, in order; the hash is None if the field cannot be read."""
FileStat = tuple[int, int, int]
"""Size in bytes, and the times of the last change of content and of the entry in ns."""


class HashCache:
    """The content hashes of a slide's fields and results, by file name.

    They are kept in ``.seen.json`` beside each slide's results; a lost file only costs time. Names of fields and of
    results are never the same, as results do not end like images.

    Args:
        output: The output; None to keep the hashes in memory alone, for somebody else to write.
        now: Returns the Unix time in seconds.
    """

    def __init__(self, output: OutputPaths | None, now: Callable[[], float] = time.time) -> None:
        self._output, self._now = output, now
        self._slide = ""
        self._stored: dict[str, list[Any]] = {}
        self._current: dict[str, list[Any]] = {}

    def load_slide(self, slide: str) -> None:
        """Read the cache of a slide, which the other methods then work on."""
        self._slide, self._current, self._stored = slide, {}, {}
        if self._output is None:
            return
        try:
            self._stored = dict(json.loads(self._output.slide_file(slide, HASH_CACHE_JSON).read_bytes()))
        except (OSError, ValueError, TypeError):
            return

    def flush(self) -> None:
        """Write the cache of the slide if the slide has results and anything is new.

        Raises:
            OutputNotWritable: The file cannot be written.
        """
        if self._output is None:
            return
        path = self._output.slide_file(self._slide, HASH_CACHE_JSON)
        if self._current and self._current != self._stored and path.parent.is_dir():
            write_json_atomic(path, self._current)

    @property
    def remembered(self) -> tuple[tuple[str, FileStat, str], ...]:
        """Name, size and times, and hash of each file of the slide that was hashed."""
        return tuple((name, (entry[0], entry[1], entry[2]), entry[3]) for name, entry in self._current.items())

    def hash_fields(self, slide: Slide, max_megapixels: float) -> FieldHashes:
        """Return name and SHA-256 of every file of a slide; only those whose size or times have changed are read.

        Args:
            slide: The slide that was loaded.
            max_megapixels: The limit of an image's size; a scan's files have none.

        Returns:
            The pairs in the order of the files; the hash of one that cannot be read is None.
        """

        def digest(path: Path) -> str:
            """Hash a field."""
            return hashlib.sha256(read_image_bytes(path, max_megapixels)).hexdigest()

        compute = digest_large_file if slide.is_scan else digest
        names = ((path.relative_to(slide.folder).as_posix(), path) for path in slide.fields)
        return tuple((name, self.hash_file(path, compute, name)) for name, path in names)

    def remember(self, name: str, file_stat: FileStat, sha256: str) -> None:
        """Remember a file's hash, unless the file is so new that another change might leave its times as they are.

        Args:
            name: The file's name.
            file_stat: Its size and times, from before it was read.
            sha256: The hash of its content.
        """
        if self._now() * 1e9 - max(file_stat[1:]) > _CLOCK_GRAIN_NS:
            self._current[name] = [*file_stat, sha256]

    def hash_file(self, path: Path, digest: Callable[[Path], str], name: str = "") -> str | None:
        """Return the SHA-256 of one of the slide's files; None if it cannot be read.

        Args:
            path: The file.
            digest: Hashes it; called only if its size or times have changed.
            name: Its name in the cache; the file's own if empty.
        """
        name = name or path.name
        try:
            file_stat = get_file_stat(path)
            entry = self._stored.get(name)
            if isinstance(entry, list) and len(entry) == 4 and tuple(entry[:3]) == file_stat:
                self._current[name] = entry
                return str(entry[3])
            sha256 = digest(path)
        except (OSError, FieldUnreadable):
            return None
        self.remember(name, file_stat, sha256)
        return sha256


def digest_large_file(path: Path) -> str:
    """Return the SHA-256 of a file that may be larger than the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get_file_stat(path: Path) -> FileStat:
    """Return a file's size in bytes and, in ns, the times of the last change of its content and of its entry."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns

"""Writing results so that no reader ever sees half a file, and holding the output for one run at a time."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wbctool.errors import OutputNotWritable
from wbctool.paths import temp_path_for

# Of the operating system's reasons why a file cannot be written, those that lie in one slide's name or place.
_NAME_ERRNOS = frozenset(
    {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EILSEQ}
)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole: under a temporary name in the same folder, to the disk, then renamed.

    Raises OutputNotWritable; whatever was there before is then still there.
    """
    write_atomic_group({path: content})


def write_atomic_group(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder whole: all to the disk under temporary names, and only then renamed, in their order.

    Raises OutputNotWritable, naming the file. Renaming needs no room on the disk, so where there is too little, every
    file that was there before is still there.
    """
    temp_paths = {path: temp_path_for(path) for path in files}
    try:
        for path, temp_path in temp_paths.items():
            with _wrap_os_error(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(temp_path, files[path])
        for path, temp_path in temp_paths.items():
            with _wrap_os_error(path):
                temp_path.replace(path)
        for folder in {path.parent for path in files}:
            with _wrap_os_error(folder):
                sync_folder(folder)
    finally:
        for temp_path in temp_paths.values():
            with suppress(OSError):
                temp_path.unlink(missing_ok=True)


def is_name_error(error: OutputNotWritable) -> bool:
    """Whether it is one slide's name or place that cannot be written, and not the output."""
    return getattr(error.__cause__, "errno", None) in _NAME_ERRNOS


def write_json_atomic(path: Path, content: dict[str, Any]) -> None:
    """As :func:`publish`, for JSON values."""
    write_atomic(path, format_json(content).encode("ascii"))


def format_json(content: dict[str, Any]) -> str:
    """Indented JSON, pure ASCII, so that names that are not UTF-8 survive."""
    return json.dumps(content, indent=1) + "\n"


@contextmanager
def _wrap_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(f"{path} cannot be written: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """So that a new name in it outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Writing files so that no reader ever sees half of one."""

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

# Reasons of the operating system that lie in one slide's name or place, and not in the output as a whole.
_NAME_ERRNOS = frozenset(
    {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EILSEQ}
)


@contextmanager
def raise_not_writable(path: Path) -> Iterator[None]:
    """Turn an OSError within the block into an OutputNotWritable that names ``path``."""
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(f"{path} cannot be written: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole: to the disk under a temporary name in the same folder, then renamed.

    Raises:
        OutputNotWritable: The file cannot be written; what was there before is still there.
    """
    write_atomic_group({path: content})


def write_through_link(path: Path, content: bytes) -> None:
    """Write a file that the user named whole; if it is a link, its target is replaced, in the target's own folder.

    Raises:
        OutputNotWritable: The file cannot be written; what was there before is still there.
    """
    write_atomic(resolve_output(path), content)


def resolve_output(path: Path) -> Path:
    """Return the file to write for a path that the user named, as :func:`resolve_link`.

    Raises:
        OutputNotWritable: The links lead in a circle, or into a folder that does not exist. That folder is not made: it
            may be on a disk that is not mounted.
    """
    target = resolve_link(path)
    if target != path and not target.parent.is_dir():
        raise OutputNotWritable(f"{path} cannot be written: the link leads to {target}, whose folder does not exist")
    return target


def resolve_link(path: Path) -> Path:
    """Return the file that a link leads to, whether it exists or not; a path that is no link as it is.

    Raises:
        OutputNotWritable: The links lead in a circle.
    """
    if not os.path.islink(path):  # noqa: PTH114, of a name that is too long Path.is_symlink raises
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputNotWritable(f"{path} cannot be written: {os.strerror(errno.ELOOP)}")
    return target


def write_atomic_group(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder whole: all to the disk under temporary names, and only then renamed, in their order.

    Renaming needs no room on the disk: if there is too little, every file that was there before is still there.

    Raises:
        OutputNotWritable: A file cannot be written; the error names it.
    """
    temp_paths = {path: temp_path_for(path) for path in files}
    try:
        for path, temp_path in temp_paths.items():
            with raise_not_writable(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(temp_path, files[path])
        for path, temp_path in temp_paths.items():
            with raise_not_writable(path):
                temp_path.replace(path)
        for folder in {path.parent for path in files}:
            with raise_not_writable(folder):
                sync_folder(folder)
    finally:
        for temp_path in temp_paths.values():
            with suppress(OSError):
                temp_path.unlink(missing_ok=True)


def is_name_error(error: OutputNotWritable) -> bool:
    """Return whether one slide's name or place cannot be written, and not the output as a whole."""
    return getattr(error.__cause__, "errno", None) in _NAME_ERRNOS


def write_json_atomic(path: Path, content: dict[str, Any]) -> None:
    """Write JSON values whole, as :func:`write_atomic` does.

    Raises:
        OutputNotWritable: The file cannot be written.
    """
    write_atomic(path, format_json(content).encode("ascii"))


def format_json(content: dict[str, Any]) -> str:
    """Return indented JSON in pure ASCII, in which names that are not UTF-8 survive."""
    return json.dumps(content, indent=1) + "\n"


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, so that a new name outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes) -> None:
    """Write a new file to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

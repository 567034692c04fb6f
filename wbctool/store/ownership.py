"""Whether a file is wbctool's own: no command replaces a file that wbctool did not write.

A file does not say who wrote it, so each kind is told by its contents, and pictures and pages by the file of their
folder that is written first. An empty file, as ``mktemp`` and ``touch`` make it, holds nothing to lose: it is replaced.
"""

from __future__ import annotations

import csv
import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import SettingsInvalid
from wbctool.report.csv_tables import COUNTS_COLUMNS
from wbctool.report.workbook import CORE_PROPERTIES, CORE_PROPERTIES_NAME
from wbctool.store.run_record import is_results

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file that commands write.

    Attributes:
        noun: What such a file is, to follow "it is not".
        is_own: Whether the content of a file is of this kind and from wbctool. What it raises of a content that it does
            not expect means no.
    """

    noun: str
    is_own: Callable[[Path], bool]


def check_overwrite(path: Path, kind: FileKind, option: str = "") -> None:
    """Refuse to write where there is something that wbctool did not write. A link is judged by its target.

    Args:
        path: The file to be written. Nothing may be there, or an empty file.
        kind: What will be written.
        option: The option that named the file, for the message; empty for none.

    Raises:
        SettingsInvalid: There is another file, a folder, a device or a pipe; the message names it.
    """
    name = f"{option} {path}".strip()
    try:
        status = path.stat()
    except OSError:  # there is nothing, or writing will say what is wrong
        return
    if stat.S_ISDIR(status.st_mode):
        raise SettingsInvalid(f"{name}: that is a folder; name a file")
    if not stat.S_ISREG(status.st_mode):
        raise SettingsInvalid(f"{name}: that is a device or a pipe, which would be replaced; name a file")
    if status.st_size and not is_own(path, kind):
        raise SettingsInvalid(
            f"{name}: wbctool did not write this file, or it was changed since (it is not {kind.noun}); "
            f"choose another name, or move the file away"
        )


def check_overwrite_folder(
    folder: Path, marker: str, kind: FileKind, patterns: Iterable[str], option: str = ""
) -> None:
    """Refuse to write into a folder over files that wbctool did not write.

    Args:
        folder: The folder.
        marker: The name of the file in it that is written first and tells whose the others are.
        kind: What the marker is.
        patterns: The names of the other files, ``*`` allowed.
        option: The option that named the folder, for the message; empty for none.

    Raises:
        SettingsInvalid: A file is not ours; the message names it.
    """
    if not os.path.isdir(folder):  # noqa: PTH112, of a name that is too long Path.is_dir raises
        return
    check_overwrite(folder / marker, kind, option)
    others = FileKind(f"beside {marker}, {kind.noun}", lambda _: is_own(folder / marker, kind))
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            check_overwrite(path, others, option)


def begins_with(prefix: bytes) -> Callable[[Path], bool]:
    """Return a test whether a file begins with these bytes."""
    return lambda path: read_head(path, len(prefix)) == prefix


def has_schema(name: str) -> Callable[[Path], bool]:
    """Return a test whether a JSON file's first entry is this schema, of any version."""
    return lambda path: begins_with_schema(read_head(path, 64), name)


def begins_with_schema(head: bytes, name: str) -> bool:
    """Return whether a JSON file's beginning has this schema, of any version, as its first entry."""
    return head.lstrip(b"{ \r\n").startswith(f'"schema": "{name.partition("/")[0]}/'.encode())


def has_columns(columns: Iterable[str]) -> Callable[[Path], bool]:
    """Return a test whether a CSV file has these columns, or those of them that an earlier version wrote."""
    known = tuple(columns)

    def test(path: Path) -> bool:
        header = next(csv.reader([read_head(path).split(b"\n")[0].decode("utf-8-sig").rstrip("\r")]))
        return header[:2] == list(known[:2]) and known[-1] in header and set(header) <= set(known)

    return test


def read_head(path: Path, n_bytes: int = _HEAD_BYTES) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(n_bytes)


def is_own(path: Path, kind: FileKind) -> bool:
    """Return whether a file is known to be of a kind and ours; False if it cannot be read."""
    try:
        return kind.is_own(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, csv.Error, zipfile.BadZipFile):
        return False


def _is_counts_csv(path: Path) -> bool:
    """Return whether a file has the columns of counts.csv, and a run's folder lies beside it or its link's target."""
    folders = (path.with_suffix(""), Path(os.path.realpath(path)).with_suffix(""))
    return has_columns(COUNTS_COLUMNS)(path) and any(map(is_results, folders))


def _is_counts_workbook(path: Path) -> bool:
    """Return whether a file is a workbook that nobody has saved again."""
    with zipfile.ZipFile(path) as parts:
        return parts.read(CORE_PROPERTIES_NAME) == CORE_PROPERTIES


WORKBOOK_FILE = FileKind("a workbook of a run that no other program has saved", _is_counts_workbook)
COUNTS_FILE = FileKind("a table of slides with its run's folder beside it", _is_counts_csv)

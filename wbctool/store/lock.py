"""Writing results so that no reader ever sees half a file, and holding the output for one run at a time."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wbctool.errors import OutputLocked, OutputNotWritable
from wbctool.paths import TEMP_PREFIX, OutputPaths, is_temp_name, temp_prefix_for
from wbctool.store.atomic_write import write_json_atomic

_HOLDER_READ_ATTEMPTS = 20
_HOLDER_READ_INTERVAL_S = 0.05


def remove_stale_temp_files(layout: OutputPaths) -> None:
    """Remove what a killed run left under temporary names. Only for the holder of the lock."""
    for folder, _, names in os.walk(layout.folder):
        for name in names:
            if name.startswith(TEMP_PREFIX):
                _remove(Path(folder, name))
    for path in layout.counts_csv.parent.glob(temp_prefix_for(layout.counts_csv) + "*"):
        if is_temp_name(path.name):
            _remove(path)


@contextmanager
def lock_output(layout: OutputPaths) -> Iterator[None]:
    """Hold an output for this process. The kernel lets go when the process ends, however it ends.

    Raises OutputLocked at once where another process holds it, OutputNotWritable where the folder cannot be made, or
    the CSV cannot be one.
    """
    lock = FileLock(layout.lock, timeout=0, fallback_to_soft=False)
    try:
        layout.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise OutputLocked(f"{layout.counts_csv} is in use by another run{_format_holder(layout)}") from error
    except OSError as error:
        raise OutputNotWritable(f"{layout.folder} cannot be written: {error.strerror or error}") from error
    try:
        _check_filename(layout.counts_csv)
        remove_stale_temp_files(layout)
        write_json_atomic(layout.lock_holder_json, process_identity())
        yield
    finally:
        with suppress(OSError):
            layout.lock_holder_json.unlink()
        lock.release()


def process_identity() -> dict[str, Any]:
    """Who this process is, and when it and its machine were started: numbers of processes come again."""
    return {"pid": os.getpid(), "host": platform.node(), "started": get_process_start(os.getpid())}


def get_process_start(pid: int) -> str:
    """What tells a process from a later one of the same number; empty where the system does not say, or it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{boot} {ticks}"


def _format_holder(layout: OutputPaths) -> str:
    """Who holds an output, in words. One that has only just begun gets a moment to leave its note."""
    for _ in range(_HOLDER_READ_ATTEMPTS):
        try:
            holder = json.loads(layout.lock_holder_json.read_bytes())
            return f" (process {holder['pid']} on {holder['host']})"
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(_HOLDER_READ_INTERVAL_S)
    return ""


def _check_filename(table: Path) -> None:
    """That a file can have this name, which is longer than the folder's by its ending."""
    if os.path.isdir(table):  # noqa: PTH112, of a name that is too long Path.is_dir raises
        raise OutputNotWritable(f"{table} cannot be written: it is a folder")
    try:
        table.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputNotWritable(f"{table} cannot be written: {error.strerror or error}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputNotWritable(f"{path} is left over from a stopped run and cannot be removed: {error}") from error

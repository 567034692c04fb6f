"""Holding an output for one run or review at a time."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from wbctool.errors import OutputLocked, OutputNotWritable
from wbctool.paths import TEMP_PREFIX, OutputPaths, is_temp_name, temp_prefix_for
from wbctool.store.atomic_write import raise_not_writable, resolve_link, write_json_atomic

RUN_COMMAND = "run"
_HOLDER_READ_ATTEMPTS = 20
_HOLDER_READ_INTERVAL_S = 0.05
_START_TOLERANCE_S = 2.0  # by which a process's start may differ after the clock was set


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The process that holds an output, as it notes itself in ``.lock-holder.json``.

    Attributes:
        pid: Its number, which the system uses again.
        host: Its machine.
        started: When it was started, as Unix time; a text if an earlier version of wbctool wrote the note.
        command: The command of wbctool that it executes.
    """

    pid: int
    host: str
    started: float | str
    command: str = RUN_COMMAND

    def is_alive(self) -> bool:
        """Return whether this process still runs; True for one on another machine, which cannot be asked."""
        if self.host != platform.node():
            return True
        try:
            started = psutil.Process(self.pid).create_time()
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:  # it runs, but belongs to another user
            return True
        return isinstance(self.started, float) and abs(started - self.started) < _START_TOLERANCE_S


_HOLDER = TypeAdapter(LockHolder)


@contextmanager
def lock_output(output: OutputPaths, command: str = RUN_COMMAND) -> Iterator[None]:
    """Hold an output for this process. The kernel lets go when the process ends, however it ends.

    A folder that was made for the lock goes again if the block raises an error before it has written anything.

    Args:
        output: The paths of the output.
        command: The command of wbctool that this process executes.

    Raises:
        OutputLocked: Another process holds it.
        OutputNotWritable: The folder cannot be made, or the CSV file cannot have its name.
    """
    lock = FileLock(output.lock, timeout=0, fallback_to_soft=False)
    made = [folder for folder in (output.folder, *output.folder.parents) if not os.path.lexists(folder)]
    with raise_not_writable(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise OutputLocked(f"{output.counts_csv} is in use by {_format_holder(output)}") from error
    try:
        _check_filename(output.counts_csv)
        remove_stale_temp_files(output)
        write_json_atomic(output.lock_holder_json, asdict(identify_process(command)))
        yield
    except BaseException:
        _remove_lock_holder(output)
        if made:
            _remove_unused_folders(output, made)
        raise
    finally:
        _remove_lock_holder(output)
        lock.release()


def remove_stale_temp_files(output: OutputPaths) -> None:
    """Remove what a killed run left under temporary names; only for the holder of the lock.

    Raises:
        OutputNotWritable: A file cannot be removed.
    """
    for folder, _, names in os.walk(output.folder):
        for name in names:
            if name.startswith(TEMP_PREFIX):
                _remove(Path(folder, name))
    for table in filter(None, (output.counts_csv, output.workbook)):
        target = resolve_link(table)
        for path in target.parent.glob(temp_prefix_for(target) + "*"):
            if is_temp_name(path.name):
                _remove(path)


def identify_process(command: str = RUN_COMMAND) -> LockHolder:
    """Return what tells this process from a later one of the same number, and the command that it executes."""
    return LockHolder(os.getpid(), platform.node(), psutil.Process().create_time(), command)


def read_holder(output: OutputPaths) -> LockHolder | None:
    """Return the process that noted itself as the holder of an output; None if there is no valid note.

    The lock itself is not tried: somebody who looks must not turn a run away.
    """
    try:
        return _HOLDER.validate_python(json.loads(output.lock_holder_json.read_bytes()))
    except (OSError, ValidationError, ValueError):
        return None


def _remove_lock_holder(output: OutputPaths) -> None:
    """Remove the note of this process."""
    with suppress(OSError):
        output.lock_holder_json.unlink(missing_ok=True)


def _remove_unused_folders(output: OutputPaths, made: Sequence[Path]) -> None:
    """Remove the folders that this process made, the innermost first, if they hold nothing but the lock."""
    with suppress(OSError):
        if os.listdir(output.folder) == [output.lock.name]:  # noqa: PTH208, names are enough
            output.lock.unlink()
            for folder in made:
                folder.rmdir()


def _format_holder(output: OutputPaths) -> str:
    """Name the holder of an output, which gets a moment to leave its note if it has only just begun."""
    for _ in range(_HOLDER_READ_ATTEMPTS):
        if holder := read_holder(output):
            what = "another run" if holder.command == RUN_COMMAND else f"`wbctool {holder.command}`"
            return f"{what} (process {holder.pid} on {holder.host})"
        time.sleep(_HOLDER_READ_INTERVAL_S)
    return "another process"


def _check_filename(table: Path) -> None:
    """Refuse a CSV that is a folder, or whose name, which is longer than the folder's, cannot be one."""
    if os.path.isdir(table):  # noqa: PTH112, of a name that is too long Path.is_dir raises
        raise OutputNotWritable(f"{table} cannot be written: it is a folder")
    with raise_not_writable(table), suppress(FileNotFoundError):
        table.lstat()


def _remove(path: Path) -> None:
    """Remove a file that a stopped run left."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputNotWritable(f"{path} is left over from a stopped run and cannot be removed: {error}") from error

"""Where a run may write, asked before the first slide: not over what is not its own, and not where it would fail."""

from __future__ import annotations

import os
from pathlib import Path

from wbctool.batch.slides import is_results
from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.layout import AUDIT, INDEX, LOCK, LOG_MARK, QC_HISTORY, RUN, OutputLayout, temporary_beside
from wbctool.settings import RunSettings
from wbctool.stages.images import IMAGE_SUFFIXES

_HEAD_BYTES = 4096


def check_apart(layout: OutputLayout, settings: RunSettings) -> None:
    """Raises SettingsInvalid where the results would go among the slides, or over files that no run wrote."""
    results, root = Path(os.path.realpath(layout.folder)), Path(os.path.realpath(settings.slides))
    if root.is_relative_to(results) or (results.is_relative_to(root) and _holds_slides(results)):
        raise SettingsInvalid(f"--out {layout.counts}: the results would go into {results}, which holds the slides")
    if _is_anothers(results):
        raise SettingsInvalid(
            f"--out {layout.counts}: the results would go into {results}, which holds files of the same names "
            f"that no run wrote; choose another name, or move that folder"
        )


def check_log_file(layout: OutputLayout, log_file: Path) -> None:
    """Raises SettingsInvalid where a log would go into the results, or be added to a file that is not a log."""
    path, counts, folder = (Path(os.path.realpath(p)) for p in (log_file, layout.counts, layout.folder))
    if path == counts or path.is_relative_to(folder):
        raise SettingsInvalid(f"--log-file {log_file}: that is where the results go")
    if os.path.isfile(path) and not _is_log(path):  # noqa: PTH113, and not of a device, which may never end
        raise SettingsInvalid(f"--log-file {log_file}: that file is not a log; it would be spoilt")


def _is_log(path: Path) -> bool:
    """Whether a file begins as our logs do, as far as it goes, or with such a line that a full disk has torn.

    One that cannot be read may be one.
    """
    mark = LOG_MARK.encode()
    try:
        with path.open("rb") as file:
            begin = file.read(_HEAD_BYTES)
    except OSError:
        return True
    return mark in begin or mark.startswith(begin)


def check_table_writable(layout: OutputLayout) -> None:
    """Raises OutputNotWritable where counts.csv could not be published, though the folder of results may be there."""
    trial = temporary_beside(layout.counts)
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise OutputNotWritable(f"{layout.counts} cannot be written: {error.strerror or error}") from error


def is_written_to(folder: Path, settings: RunSettings) -> bool:
    """Whether a run's own files go directly into a folder: its time is then that of the last run's end."""
    own = (settings.out, settings.metrics, settings.log_file)
    here = os.path.realpath(folder)
    return any(path is not None and os.path.realpath(path.parent) == here for path in own)


def _holds_slides(folder: Path) -> bool:
    if is_results(folder):
        return False
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)


def _is_anothers(folder: Path) -> bool:
    """Whether a file would be overwritten that no run wrote: a run makes the lock file before all else."""
    if is_results(folder) or os.path.lexists(folder / LOCK):
        return False
    return any(os.path.lexists(folder / name) for name in (RUN, INDEX, AUDIT, QC_HISTORY))

"""Checks before the first slide: a run must not overwrite files that no run wrote, and must be able to write."""

from __future__ import annotations

import os
from pathlib import Path

from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.imaging.formats import IMAGE_SUFFIXES
from wbctool.paths import (
    AUDIT_JSONL,
    INDEX_HTML,
    LOCK,
    LOG_SIGNATURE,
    QC_HISTORY_CSV,
    RUN_JSON,
    OutputPaths,
    temp_path_for,
)
from wbctool.settings import RunSettings
from wbctool.store.run_record import is_results

_HEAD_BYTES = 4096


def check_output_location(layout: OutputPaths, settings: RunSettings) -> None:
    """Check that the results go neither among the slides nor over files that no run wrote.

    Args:
        layout: The paths of the output.
        settings: The settings of the run.

    Raises:
        SettingsInvalid: They would.
    """
    results, root = Path(os.path.realpath(layout.folder)), Path(os.path.realpath(settings.slides))
    if root.is_relative_to(results) or (results.is_relative_to(root) and _has_images(results)):
        raise SettingsInvalid(f"--out {layout.counts_csv}: the results would go into {results}, which holds the slides")
    if _has_foreign_files(results):
        raise SettingsInvalid(
            f"--out {layout.counts_csv}: the results would go into {results}, which holds files of the same names "
            f"that no run wrote; choose another name, or move that folder"
        )


def check_log_file(layout: OutputPaths, log_file: Path) -> None:
    """Check that a log goes neither into the results nor into a file that is not a log.

    Args:
        layout: The paths of the output.
        log_file: The log file.

    Raises:
        SettingsInvalid: It would.
    """
    path, counts, folder = (Path(os.path.realpath(p)) for p in (log_file, layout.counts_csv, layout.folder))
    if path == counts or path.is_relative_to(folder):
        raise SettingsInvalid(f"--log-file {log_file}: that is where the results go")
    if os.path.isfile(path) and not _is_log(path):  # noqa: PTH113, false for a device, which may have no end
        raise SettingsInvalid(f"--log-file {log_file}: that file is not a log; it would be spoilt")


def _is_log(path: Path) -> bool:
    """Return whether a file begins as our logs do, or cannot be read and so may be a log."""
    # A full disk may have cut a line short: the first one, or one before a complete line.
    mark = LOG_SIGNATURE.encode()
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return True
    return mark in head or mark.startswith(head)


def check_counts_writable(layout: OutputPaths) -> None:
    """Check that counts.csv can be written, by writing a temporary file beside it.

    Args:
        layout: The paths of the output.

    Raises:
        OutputNotWritable: It cannot be written.
    """
    probe = temp_path_for(layout.counts_csv)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OutputNotWritable(f"{layout.counts_csv} cannot be written: {error.strerror or error}") from error


def contains_run_outputs(folder: Path, settings: RunSettings) -> bool:
    """Return whether a run's own files lie directly in a folder, so that the folder's time is that of the last run."""
    outputs = (settings.out, settings.metrics, settings.log_file)
    resolved = os.path.realpath(folder)
    return any(path is not None and os.path.realpath(path.parent) == resolved for path in outputs)


def _has_images(folder: Path) -> bool:
    """Return whether a folder that is not one of results holds an image, at any depth."""
    if is_results(folder):
        return False
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)


def _has_foreign_files(folder: Path) -> bool:
    """Return whether a run would overwrite files that no run wrote; a run makes its lock file first."""
    if is_results(folder) or os.path.lexists(folder / LOCK):
        return False
    return any(os.path.lexists(folder / name) for name in (RUN_JSON, INDEX_HTML, AUDIT_JSONL, QC_HISTORY_CSV))

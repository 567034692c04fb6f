"""Checks before the first slide: a run must not overwrite files that no run wrote, and must be able to write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.imaging.formats import IMAGE_SUFFIXES
from wbctool.imaging.scan import SCAN_SUFFIXES
from wbctool.paths import (
    AUDIT_JSONL,
    INDEX_HTML,
    LOCK,
    LOG_BACKUPS,
    LOG_SIGNATURE,
    QC_HISTORY_CSV,
    RUN_JSON,
    SLIDE_JSON,
    OutputPaths,
    is_file,
    temp_path_for,
)
from wbctool.pipeline.prometheus import METRICS_FILE
from wbctool.settings import RunSettings
from wbctool.store.atomic_write import resolve_output
from wbctool.store.ownership import (
    COUNTS_FILE,
    WORKBOOK_FILE,
    FileKind,
    check_overwrite,
    check_overwrite_folder,
    has_schema,
    read_head,
)
from wbctool.store.run_record import is_results
from wbctool.store.slide_record import RESULT_FILES
from wbctool.types.cells import Slide


def check_output_location(output: OutputPaths, settings: RunSettings) -> None:
    """Check that the tables and the folder of results go neither among the slides nor over files that no run wrote.

    Args:
        output: The paths of the output.
        settings: The settings of the run.

    Raises:
        SettingsInvalid: They would.
    """
    check_overwrite(output.counts_csv, COUNTS_FILE, "--out")
    if output.workbook is not None:
        check_overwrite(output.workbook, WORKBOOK_FILE, "--out")
    results, root = Path(os.path.realpath(output.folder)), Path(os.path.realpath(settings.slides))
    if root.is_relative_to(results) or (results.is_relative_to(root) and _has_images(results)):
        raise SettingsInvalid(f"--out {output.counts_csv}: the results would go into {results}, which holds the slides")
    if _has_foreign_files(results):
        raise SettingsInvalid(
            f"--out {output.counts_csv}: the results would go into {results}, which holds files of the same names "
            f"that no run wrote; choose another name, or move that folder"
        )


def check_slide_folders(output: OutputPaths, slides: Iterable[Slide]) -> None:
    """Check that no slide's results go over files that no run wrote, here or behind a link.

    Args:
        output: The paths of the output.
        slides: The slides that were found.

    Raises:
        SettingsInvalid: They would; the message names the first such file.
    """
    is_known, results = is_results(output.folder), Path(os.path.realpath(output.folder))
    for slide in slides:
        folder = Path(os.path.realpath(output.slide_folder(slide.id)))
        if not (is_known and folder.is_relative_to(results)):
            check_overwrite_folder(folder, SLIDE_JSON, SLIDE_FILE, RESULT_FILES, f"--out {output.counts_csv}:")


def check_log_file(output: OutputPaths, log_file: Path, metrics: Path | None = None) -> None:
    """Check that a log goes neither into the results or the metrics nor into a file that is not a log.

    Args:
        output: The paths of the output.
        log_file: The log file.
        metrics: The file of metrics, if there is one.

    Raises:
        SettingsInvalid: It would.
    """
    path = Path(os.path.realpath(log_file))
    if _is_of_results(output, path):
        raise SettingsInvalid(f"--log-file {log_file}: that is where the results go")
    if path in _real_paths(metrics):
        raise SettingsInvalid(f"--log-file {log_file}: that is where the metrics go")
    if os.path.lexists(path) and not is_file(path):
        return  # a device, which is only appended to
    check_overwrite(log_file, LOG_FILE, "--log-file")
    for number in range(1, LOG_BACKUPS + 1):  # the log becomes the first of them when it is full
        check_overwrite(path.with_name(f"{path.name}.{number}"), LOG_FILE, f"--log-file {log_file}:")


def check_metrics(output: OutputPaths, metrics: Path) -> None:
    """Check that the metrics go neither into the results nor into a file of another program.

    Args:
        output: The paths of the output.
        metrics: The file of metrics.

    Raises:
        SettingsInvalid: They would.
    """
    if _is_of_results(output, Path(os.path.realpath(metrics))):
        raise SettingsInvalid(f"--metrics {metrics}: that is where the results go")
    check_overwrite(metrics, METRICS_FILE, "--metrics")


def _is_of_results(output: OutputPaths, path: Path) -> bool:
    """Return whether a path without links is one of the tables, or lies in the folder of the results."""
    folder = os.path.realpath(output.folder)
    return path in _real_paths(output.counts_csv, output.workbook) or path.is_relative_to(folder)


def _real_paths(*paths: Path | None) -> set[Path]:
    """Return the paths that there are, without links."""
    return {Path(os.path.realpath(path)) for path in paths if path is not None}


def _is_log(path: Path) -> bool:
    """Return whether a file begins as our logs do, or cannot be read and so may be a log; a run only appends to it."""
    # A full disk may have cut a line short: the first one, or one before a complete line.
    mark = LOG_SIGNATURE.encode()
    try:
        head = read_head(path)
    except OSError:
        return True
    return mark in head or mark.startswith(head)


LOG_FILE = FileKind("a log of runs", _is_log)
SLIDE_FILE = FileKind("a record of a slide", has_schema("wbctool-slide"))


def check_tables_writable(output: OutputPaths) -> None:
    """Check that the tables of all slides can be written, by writing a temporary file beside each or its link's target.

    Args:
        output: The paths of the output.

    Raises:
        OutputNotWritable: One cannot be written.
    """
    for path in (output.counts_csv, output.workbook):
        if path is None:
            continue
        probe = temp_path_for(resolve_output(path))
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise OutputNotWritable(f"{path} cannot be written: {error.strerror or error}") from error


def contains_run_outputs(folder: Path, settings: RunSettings) -> bool:
    """Return whether a run writes its own files directly into a folder.

    The folder's time of change is then that of the last run, and says nothing of its images.

    Args:
        folder: The folder.
        settings: The settings of the run.
    """
    outputs = (settings.out, settings.metrics, settings.log_file)
    resolved = os.path.realpath(folder)
    return any(
        resolved in {os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path))}  # noqa: PTH120
        for path in outputs
        if path is not None
    )


def _has_images(folder: Path) -> bool:
    """Return whether a folder that is not one of results holds an image, at any depth."""
    if is_results(folder):
        return False
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES | SCAN_SUFFIXES for name in names)


def _has_foreign_files(folder: Path) -> bool:
    """Return whether a run would overwrite files that no run wrote; a run makes its lock first, and run.json next."""
    if is_results(folder):
        return False
    names = (RUN_JSON, INDEX_HTML, AUDIT_JSONL, QC_HISTORY_CSV)
    return any(os.path.lexists(folder / name) for name in names) or not _is_free_for_lock(folder / LOCK)


def _is_free_for_lock(path: Path) -> bool:
    """Return whether there is no file, or the empty one of a run that was killed at its beginning."""
    try:
        status = path.lstat()
    except OSError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size == 0

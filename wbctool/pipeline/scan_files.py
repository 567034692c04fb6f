"""Which files of a folder are whole-slide scans, and which other files belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.imaging.scan import DICOM_SUFFIXES, companion_folder, is_dicom_scan, is_scan
from wbctool.text import natural_sort_key


@dataclass(frozen=True, slots=True)
class ScanFiles:
    """The files of one scan.

    Attributes:
        name: Its file's name without the ending; empty if the scan is its folder, as with DICOM.
        files: All its files, the one to open first.
        companion: The folder that belongs to its file, as with MIRAX; None if there is none.
    """

    name: str
    files: tuple[Path, ...]
    companion: Path | None = None


def find_scans(files: Sequence[Path]) -> list[ScanFiles]:
    """Find the scans among the files of one folder; all its DICOM files are one scan."""
    scans = [ScanFiles(path.stem, list_scan_files(path), companion_folder(path)) for path in files if is_scan(path)]
    dicom = tuple(path for path in files if is_dicom_scan(path))
    return [*scans, ScanFiles("", dicom)] if dicom else scans


def list_scan_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a scan, the one to open first: with its companions, or all of a folder of DICOM."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        files = sorted(path.parent.iterdir(), key=lambda file: natural_sort_key(file.name))
        return tuple(file for file in files if is_dicom_scan(file))
    folder = companion_folder(path)
    companions = () if folder is None else (file for file in folder.rglob("*") if file.is_file())
    return path, *sorted(companions)

"""The names of all files that a run writes.

The ids of slides become folders below the output folder. They come from the file system, so each of their parts is a
valid name; a part that equals the name of one of our own files gets a ``~``.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from wbctool.errors import SettingsInvalid

RUN_JSON = "run.json"
RUN_SIGNATURE = '"schema": "wbctool-run/'  # the first entry of every run.json; it marks a folder of results
LOG_SIGNATURE = '{"time": "'  # the beginning of every line of a log; it marks a log
LOCK = ".lock"
LOCK_HOLDER_JSON = ".lock-holder.json"
HASH_CACHE_JSON = ".seen.json"
FAILURE_JSON = ".failure.json"
DIFFERENTIAL_CSV = "differential.csv"
CELLS_CSV = "cells.csv"
REPORT_HTML = "report.html"
THUMBNAILS_ZIP = "thumbnails.zip"
SLIDE_JSON = "slide.json"
INDEX_HTML = "index.html"
AUDIT_JSONL = "audit.jsonl"
QC_HISTORY_CSV = "qc-history.csv"
LEVEY_JENNINGS_HTML = "levey-jennings.html"
LEVEY_JENNINGS_CSV = "levey-jennings.csv"
ORIGINAL_PREFIX = "original-"  # a file that a review replaced stays beside the new one under this prefix
TEMP_PREFIX = ".tmp-"
EVALUATION_JSON = "evaluation.json"  # of `wbctool evaluate`
EVALUATION_MD = "evaluation.md"
EVALUATED_CELLS_CSV = "evaluated_cells.csv"
EVALUATION_SCHEMA = "wbctool-evaluation/2"  # the first entry, by which the figures beside it are known
VERIFICATION_JSON = "verification.json"  # of `wbctool verify`
VERIFICATION_HTML = "verification.html"
VERIFICATION_SCHEMA = "wbctool-verification/2"
# What figures are called: of an evaluation with the data set's name behind it, of a verification alone.
BLAND_ALTMAN, CALIBRATION, CONFUSION = "bland-altman", "calibration", "confusion"
COVERAGE, MISTAKES, RELIABILITY = "coverage", "mistakes", "reliability"
EVALUATION_FIGURES = (CONFUSION, COVERAGE, MISTAKES, RELIABILITY)
VERIFICATION_FIGURES = (BLAND_ALTMAN, CALIBRATION, CONFUSION)
SLIDES_CSV = "slides.csv"  # the laboratory's own table in the root of SLIDES: read, never written
SLIDES_XLSX = "slides.xlsx"  # the same as an Excel workbook, read if there is no slides.csv

_RESERVED_NAMES = frozenset(
    {
        RUN_JSON,
        LOCK,
        LOCK_HOLDER_JSON,
        HASH_CACHE_JSON,
        FAILURE_JSON,
        DIFFERENTIAL_CSV,
        CELLS_CSV,
        REPORT_HTML,
        THUMBNAILS_ZIP,
        SLIDE_JSON,
        INDEX_HTML,
        AUDIT_JSONL,
        QC_HISTORY_CSV,
    }
) | {ORIGINAL_PREFIX + name for name in (DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML, SLIDE_JSON)}
_MAX_SLIDE_CHARACTERS = 60  # of the name of a review; file systems take 255 bytes, and a character up to four
_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + "[0-9a-f]{12}-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The paths of the results of ``--out``.

    Attributes:
        counts_csv: The table of all slides. The other results lie in the folder beside it.
    """

    counts_csv: Path

    @classmethod
    def from_path(cls, out: Path) -> OutputPaths:
        """Return the paths of an output.

        Args:
            out: The output's CSV, or its folder.

        Returns:
            The paths.

        Raises:
            SettingsInvalid: No output can have that name.
        """
        path = Path(os.path.realpath(out))  # Path.resolve would raise RuntimeError for a loop of links
        if not has_usable_stem(path):
            raise SettingsInvalid(f"{out} is not a valid output name")
        return cls(path if path.suffix.lower() == ".csv" else path.with_name(f"{path.name}.csv"))

    @property
    def folder(self) -> Path:
        """The folder of all results but the CSV, named as the CSV without its suffix."""
        return self.counts_csv.with_suffix("")

    @property
    def run_json(self) -> Path:
        """The record of the last run."""
        return self.folder / RUN_JSON

    @property
    def index_html(self) -> Path:
        """The page that lists all slides."""
        return self.folder / INDEX_HTML

    @property
    def audit_jsonl(self) -> Path:
        """The audit log of all reviews."""
        return self.folder / AUDIT_JSONL

    @property
    def lock(self) -> Path:
        """The file that a run locks."""
        return self.folder / LOCK

    @property
    def lock_holder_json(self) -> Path:
        """The record of the process that holds the lock."""
        return self.folder / LOCK_HOLDER_JSON

    @property
    def failure_json(self) -> Path:
        """The record of a run that failed before it wrote run.json."""
        return self.folder / FAILURE_JSON

    def export_path(self, kind: str) -> Path:
        """Return the default path of ``wbctool export``, beside the CSV."""
        return self.folder.with_name(f"{self.folder.name}-{kind}")

    @property
    def qc_history_csv(self) -> Path:
        """The values of the QC slides, one line for each time that a slide was processed."""
        return self.folder / QC_HISTORY_CSV

    @property
    def qc_folder(self) -> Path:
        """The folder of the charts of `wbctool qc`, beside the folder of results, where it could be a slide's."""
        return self.folder.with_name(f"{self.folder.name}-qc")

    def slide_folder(self, slide: str) -> Path:
        """Return the folder of one slide.

        A part of the id that is the name of one of our files, or such a name with ``~``, gets a ``~``.

        Args:
            slide: The slide's id.

        Returns:
            The folder.

        Raises:
            ValueError: The id leads out of the output folder.

        >>> OutputPaths(Path("c.csv")).slide_folder("ward 3/run.json").as_posix()
        'c/ward 3/run.json~'
        """
        parts = [f"{part}~" if part.rstrip("~").casefold() in _RESERVED_NAMES else part for part in slide.split("/")]
        if any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"{slide!r} is not a slide id")
        return self.folder.joinpath(*parts)

    def slide_file(self, slide: str, name: str) -> Path:
        """Return the path of one file of a slide."""
        return self.slide_folder(slide) / name


def review_file_name(slide: str) -> str:
    """Return the name under which a report saves a review of a slide; a valid name on every system.

    `wbctool review apply` finds the slide by the file's content, so that two slides may have the same one.

    >>> review_file_name("ward 3/smear: 12?")
    'review-ward 3-smear- 12-.json'
    """
    text = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "-" for c in slide)
    return f"review-{text[-_MAX_SLIDE_CHARACTERS:]}.json"


def safe_join(root: Path, slide: str, *names: str) -> Path:
    """Return a path below a folder for a file of a slide.

    Args:
        root: The folder.
        slide: The slide's id, which gives the first folders below ``root``.
        names: The names of further folders and of the file.

    Returns:
        The path.

    Raises:
        ValueError: The path leads out of the folder.
    """
    parts = [*slide.split("/"), *names]
    if any(part in {"", ".", ".."} or "/" in part for part in parts):
        raise ValueError(f"{slide!r} with {names!r} is no path")
    return root.joinpath(*parts)


def has_usable_stem(path: Path) -> bool:
    """Return whether a CSV's name without its suffix can name a folder; ``..csv`` leaves only a dot.

    >>> [has_usable_stem(Path(name)) for name in ("a/b.csv", "..csv", "a/...csv")]
    [True, False, False]
    """
    return path.stem not in {"", ".", ".."}


def temp_path_for(path: Path) -> Path:
    """Return a new temporary path beside ``path``, by whose name the target is known."""
    return path.with_name(temp_prefix_for(path) + secrets.token_hex(8))


def temp_prefix_for(path: Path) -> str:
    """Return the prefix of a file's temporary names: a hash, because the name itself may have the maximal length."""
    return f"{TEMP_PREFIX}{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:12]}-"


def is_temp_name(name: str) -> bool:
    """Return whether a name was made by :func:`temp_path_for`."""
    return _TEMP_NAME.fullmatch(name) is not None

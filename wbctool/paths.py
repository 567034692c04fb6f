"""The name of every file that a run writes, once.

Names of slides become folders below the output folder. They come from the file system, so each of their components is
one already; only the names of our own files are moved out of the way.
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
RUN_SIGNATURE = '"schema": "wbctool-run/'  # begins every run.json of any version, by which a folder of results is known
LOG_SIGNATURE = '{"time": "'  # how every line of a log begins, by which a log is known
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
ORIGINAL_PREFIX = "original-"  # what a review replaced stays beside it under the same name with this before it
TEMP_PREFIX = ".tmp-"
EVALUATION_JSON = "evaluation.json"  # of `wbctool evaluate`
EVALUATION_MD = "evaluation.md"
EVALUATION_SCHEMA = "wbctool-evaluation/1"  # the first entry, by which the figures beside it are known
VERIFICATION_JSON = "verification.json"  # of `wbctool verify`
VERIFICATION_HTML = "verification.html"
VERIFICATION_SCHEMA = "wbctool-verification/1"
# What figures are called: of an evaluation with the data set's name behind it, of a verification alone.
BLAND_ALTMAN, CALIBRATION, CONFUSION = "bland-altman", "calibration", "confusion"
COVERAGE, MISTAKES, RELIABILITY = "coverage", "mistakes", "reliability"
EVALUATION_FIGURES = (CONFUSION, COVERAGE, MISTAKES, RELIABILITY)
VERIFICATION_FIGURES = (BLAND_ALTMAN, CALIBRATION, CONFUSION)
SLIDES_CSV = "slides.csv"  # the laboratory's, in the root of SLIDES: read, never written

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
_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + "[0-9a-f]{12}-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Where the results of ``--out`` lie. counts_csv: the CSV; folder: beside it, named as the CSV without its ending."""

    counts_csv: Path

    @classmethod
    def from_path(cls, out: Path) -> OutputPaths:
        """The layout of an output that is named by its CSV or by its folder. Raises SettingsInvalid for neither."""
        path = Path(os.path.realpath(out))  # Path.resolve raises RuntimeError of a loop of links
        if not has_usable_stem(path):
            raise SettingsInvalid(f"{out} is not a valid output name")
        return cls(path if path.suffix.lower() == ".csv" else path.with_name(f"{path.name}.csv"))

    @property
    def folder(self) -> Path:
        """Where all but the CSV lies."""
        return self.counts_csv.with_suffix("")

    @property
    def run_json(self) -> Path:
        """The run's manifest."""
        return self.folder / RUN_JSON

    @property
    def index_html(self) -> Path:
        """The page that lists all slides."""
        return self.folder / INDEX_HTML

    @property
    def audit_jsonl(self) -> Path:
        """The audit trail of all reviews."""
        return self.folder / AUDIT_JSONL

    @property
    def lock(self) -> Path:
        """The file whose lock a run holds."""
        return self.folder / LOCK

    @property
    def lock_holder_json(self) -> Path:
        """Who holds it, for the message to others."""
        return self.folder / LOCK_HOLDER_JSON

    @property
    def failure_json(self) -> Path:
        """Why the last run could not even begin, if so."""
        return self.folder / FAILURE_JSON

    def export_path(self, kind: str) -> Path:
        """Where ``wbctool export`` writes if it is not told: beside the CSV."""
        return self.folder.with_name(f"{self.folder.name}-{kind}")

    @property
    def qc_history_csv(self) -> Path:
        """The values of QC slides, a line for each time that one was done."""
        return self.folder / QC_HISTORY_CSV

    @property
    def qc_folder(self) -> Path:
        """Where `wbctool qc` puts its charts: beside the folder of results, whose names are slides'."""
        return self.folder.with_name(f"{self.folder.name}-qc")

    def slide_folder(self, slide: str) -> Path:
        """The folder of one slide. A component that is named as one of our files, or as such a moved one, gets ``~``.

        >>> OutputPaths(Path("c.csv")).slide_folder("ward 3/run.json").as_posix()
        'c/ward 3/run.json~'
        """
        parts = [f"{part}~" if part.rstrip("~").casefold() in _RESERVED_NAMES else part for part in slide.split("/")]
        if any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"{slide!r} is not a slide id")
        return self.folder.joinpath(*parts)

    def slide_file(self, slide: str, name: str) -> Path:
        """One file of a slide's folder."""
        return self.slide_folder(slide) / name


def safe_join(root: Path, slide: str, *names: str) -> Path:
    """A path below ``root`` for something of a slide: its id's folders, then ``names``. None leads out of ``root``."""
    parts = [*slide.split("/"), *names]
    if any(part in {"", ".", ".."} or "/" in part for part in parts):
        raise ValueError(f"{slide!r} with {names!r} is no path")
    return root.joinpath(*parts)


def has_usable_stem(path: Path) -> bool:
    """Whether a CSV's name without its ending is one that a folder can be given: ``..csv`` leaves a dot.

    >>> [has_usable_stem(Path(name)) for name in ("a/b.csv", "..csv", "a/...csv")]
    [True, False, False]
    """
    return path.stem not in {"", ".", ".."}


def temp_path_for(path: Path) -> Path:
    """A new name in the folder of ``path``; it says which file it was to become."""
    return path.with_name(temp_prefix_for(path) + secrets.token_hex(8))


def temp_prefix_for(path: Path) -> str:
    """How the temporary names of one file begin. A hash, as the name itself may be as long as names can be."""
    return f"{TEMP_PREFIX}{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:12]}-"


def is_temp_name(name: str) -> bool:
    """Whether a name is one that :func:`temp_path_for` gives."""
    return _TEMP_NAME.fullmatch(name) is not None

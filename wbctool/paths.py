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
LOG_BACKUPS = 5  # older parts of a log, x.log.1 to x.log.5
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
WORKBOOK_SUFFIX = ".xlsx"  # of the table of all slides as an Excel workbook, beside the CSV
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
ADAPTATION_JSON = "adaptation.json"  # of `wbctool adapt`
ADAPTATION_HTML = "adaptation.html"
ADAPTATION_SCHEMA = "wbctool-adaptation/1"
# What figures are called: of an evaluation with the data set's name behind it, of a verification alone.
BLAND_ALTMAN, CALIBRATION, CONFUSION = "bland-altman", "calibration", "confusion"
COVERAGE, MISTAKES, RELIABILITY = "coverage", "mistakes", "reliability"
EVALUATION_FIGURES = (CONFUSION, COVERAGE, MISTAKES, RELIABILITY)
VERIFICATION_FIGURES = (BLAND_ALTMAN, CALIBRATION, CONFUSION)
SLIDES_CSV = "slides.csv"  # the laboratory's own table in the root of SLIDES: read, never written
SLIDES_XLSX = "slides.xlsx"  # the same as an Excel workbook, read if there is no slides.csv
# The laboratory's own tables in the root of SLIDES, by what they hold: never written, in whatever case their name is.
LABORATORY_TABLES = {
    "slides": (SLIDES_CSV, SLIDES_XLSX),
    "differentials": ("differentials.csv", "differentials.xlsx"),
}

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
# A page saves a file that is named after a slide, by so many characters at most: file systems take 255 bytes, and a
# character has up to four.
_MAX_NAME_CHARACTERS = 60
_NAMES_IN_FOLDER = frozenset({RUN_JSON, INDEX_HTML})
_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + "[0-9a-f]{12}-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The paths of the results of ``--out``.

    Attributes:
        counts_csv: The table of all slides; it may be a link. The other results lie in the folder beside it.
        workbook: The same table as an Excel workbook, beside it; None if none was asked for.
    """

    counts_csv: Path
    workbook: Path | None = None

    @classmethod
    def from_out(cls, out: Path) -> OutputPaths:
        """Return the paths of ``run --out``.

        >>> OutputPaths.from_out(Path("a/counts.xlsx")).counts_csv.as_posix()
        'a/counts.csv'
        """
        return cls(out.with_suffix(".csv"), out) if out.suffix.lower() == WORKBOOK_SUFFIX else cls(out)

    @classmethod
    def from_path(cls, out: Path) -> OutputPaths:
        """Return the paths of an output that exists, by any of its names.

        Args:
            out: The output's CSV or workbook, its folder, or ``run.json`` or ``index.html`` in that. A link may stand
                for the CSV that a run wrote through it, or for results that lie elsewhere.

        Returns:
            The paths, absolute.

        Raises:
            SettingsInvalid: No output can have that name.
        """
        as_named = Path(os.path.realpath(out.parent), out.name)  # Path.resolve raises RuntimeError for a loop of links
        as_linked = Path(os.path.realpath(out))
        if not has_usable_stem(as_linked):
            raise SettingsInvalid(f"{out} is not a valid output name")
        if out.name in _NAMES_IN_FOLDER and not as_linked.is_dir():
            as_linked = as_linked.parent
        elif out.name not in {"", "."} and as_named != as_linked:
            output = cls._from_absolute(as_named)
            if os.path.lexists(output.counts_csv) and os.path.lexists(output.run_json):
                return output
        return cls._from_absolute(as_linked)

    @classmethod
    def _from_absolute(cls, path: Path) -> OutputPaths:
        """Return the paths for a table, a workbook or a folder."""
        is_table = path.suffix.lower() in {".csv", WORKBOOK_SUFFIX}
        return cls.from_out(path if is_table else path.with_name(f"{path.name}.csv"))

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


def review_file_stem(slide: str) -> str:
    """Return how the names of the files begin in which a report saves reviews of a slide; valid on every system.

    The page adds the time. `wbctool review apply` finds the slide by the file's content, so that two slides may have
    the same one.

    >>> review_file_stem("ward 3/smear: 12?")
    'review-ward 3-smear- 12-'
    """
    return f"review-{_portable_name(slide)}"


def labels_file_stem(results: str) -> str:
    """Return how the names of the files begin in which a label page saves labels of cells of these results.

    The page adds the time. They are valid on every system.

    >>> labels_file_stem("counts")
    'labels-counts'
    """
    return f"labels-{_portable_name(results)}"


def _portable_name(name: str) -> str:
    """Return the end of a name without characters that some system forbids."""
    text = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "-" for c in name)
    return text[-_MAX_NAME_CHARACTERS:]


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


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False also for a name that is too long or may not be looked at.

    >>> is_file(Path("a" * 1000))
    False
    """
    return os.path.isfile(path)  # noqa: PTH113, Path.is_file raises for these


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

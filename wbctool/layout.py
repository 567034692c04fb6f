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

RUN = "run.json"
MANIFEST_MARK = '"schema": "wbctool-run/1"'  # the first entry of every run.json, by which a folder of results is known
LOG_MARK = '{"time": "'  # how every line of a log begins, by which a log is known
LOCK = ".lock"
LOCK_HOLDER = ".lock-holder.json"
SEEN = ".seen.json"
FAILURE = ".failure.json"
DIFFERENTIAL = "differential.csv"
CELLS = "cells.csv"
REPORT = "report.html"
SLIDE = "slide.json"
INDEX = "index.html"
AUDIT = "audit.jsonl"
QC_HISTORY = "qc-history.csv"
QC_CHART = "levey-jennings.html"
QC_VALUES = "levey-jennings.csv"
ORIGINAL_PREFIX = "original-"  # what a review replaced stays beside it under the same name with this before it
TEMPORARY_PREFIX = ".tmp-"
EVALUATION = "evaluation.json"  # of `wbctool evaluate`
EVALUATION_TEXT = "evaluation.md"
EVALUATION_SCHEMA = "wbctool-evaluation/1"  # the first entry, by which the figures beside it are known
VERIFICATION = "verification.json"  # of `wbctool verify`
VERIFICATION_PAGE = "verification.html"
VERIFICATION_SCHEMA = "wbctool-verification/1"
# What figures are called: of an evaluation with the data set's name behind it, of a verification alone.
BLAND_ALTMAN, CALIBRATION, CONFUSION = "bland-altman", "calibration", "confusion"
COVERAGE, MISTAKES, RELIABILITY = "coverage", "mistakes", "reliability"
EVALUATION_FIGURES = (CONFUSION, COVERAGE, MISTAKES, RELIABILITY)
VERIFICATION_FIGURES = (BLAND_ALTMAN, CALIBRATION, CONFUSION)
SLIDES_CSV = "slides.csv"  # the laboratory's, in the root of SLIDES: read, never written

_OURS = frozenset(
    {RUN, LOCK, LOCK_HOLDER, SEEN, FAILURE, DIFFERENTIAL, CELLS, REPORT, SLIDE, INDEX, AUDIT, QC_HISTORY}
) | {ORIGINAL_PREFIX + name for name in (DIFFERENTIAL, CELLS, REPORT, SLIDE)}
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]{12}-[0-9a-f]{16}")
_ESCAPED_ALIKE = re.compile(r"\\+(?=x[89a-f][0-9a-f]|[\udc80-\udcff])")
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_BYTE_IN_TEXT = re.compile(r"(\\+)x([89a-f][0-9a-f])")


@dataclass(frozen=True, slots=True)
class OutputLayout:
    """Where the results of ``--out`` lie. counts: the CSV; folder: beside it, named as the CSV without its ending."""

    counts: Path

    @classmethod
    def of(cls, out: Path) -> OutputLayout:
        """The layout of an output that is named by its CSV or by its folder. Raises SettingsInvalid for neither."""
        path = Path(os.path.realpath(out))  # Path.resolve raises RuntimeError of a loop of links
        if not names_a_folder(path):
            raise SettingsInvalid(f"{out} is not a valid output name")
        return cls(path if path.suffix.lower() == ".csv" else path.with_name(f"{path.name}.csv"))

    @property
    def folder(self) -> Path:
        """Where all but the CSV lies."""
        return self.counts.with_suffix("")

    @property
    def run(self) -> Path:
        """The run's manifest."""
        return self.folder / RUN

    @property
    def index(self) -> Path:
        """The page that lists all slides."""
        return self.folder / INDEX

    @property
    def audit(self) -> Path:
        """The audit trail of all reviews."""
        return self.folder / AUDIT

    @property
    def lock(self) -> Path:
        """The file whose lock a run holds."""
        return self.folder / LOCK

    @property
    def lock_holder(self) -> Path:
        """Who holds it, for the message to others."""
        return self.folder / LOCK_HOLDER

    @property
    def failure(self) -> Path:
        """Why the last run could not even begin, if so."""
        return self.folder / FAILURE

    def export(self, kind: str) -> Path:
        """Where ``wbctool export`` writes if it is not told: beside the CSV."""
        return self.folder.with_name(f"{self.folder.name}-{kind}")

    @property
    def qc_history(self) -> Path:
        """The values of QC slides, a line for each time that one was done."""
        return self.folder / QC_HISTORY

    @property
    def qc_charts(self) -> Path:
        """Where `wbctool qc` puts its charts: beside the folder of results, whose names are slides'."""
        return self.folder.with_name(f"{self.folder.name}-qc")

    def slide_folder(self, slide: str) -> Path:
        """The folder of one slide. A component that is named as one of our files, or as such a moved one, gets ``~``.

        >>> OutputLayout(Path("c.csv")).slide_folder("ward 3/run.json").as_posix()
        'c/ward 3/run.json~'
        """
        parts = [f"{part}~" if part.rstrip("~").casefold() in _OURS else part for part in slide.split("/")]
        if any(part in {"", ".", ".."} for part in parts):
            raise ValueError(f"{slide!r} is not a slide id")
        return self.folder.joinpath(*parts)

    def slide_file(self, slide: str, name: str) -> Path:
        """One file of a slide's folder."""
        return self.slide_folder(slide) / name


def below(root: Path, slide: str, *names: str) -> Path:
    """A path below ``root`` for something of a slide: its id's folders, then ``names``. None leads out of ``root``."""
    parts = [*slide.split("/"), *names]
    if any(part in {"", ".", ".."} or "/" in part for part in parts):
        raise ValueError(f"{slide!r} with {names!r} is no path")
    return root.joinpath(*parts)


def names_a_folder(table: Path) -> bool:
    """Whether a CSV's name without its ending is one that a folder can be given: ``..csv`` leaves a dot.

    >>> [names_a_folder(Path(name)) for name in ("a/b.csv", "..csv", "a/...csv")]
    [True, False, False]
    """
    return table.stem not in {"", ".", ".."}


def temporary_beside(path: Path) -> Path:
    """A new name in the folder of ``path``; it says which file it was to become."""
    return path.with_name(temporary_prefix(path) + secrets.token_hex(8))


def temporary_prefix(path: Path) -> str:
    """How the temporary names of one file begin. A hash, as the name itself may be as long as names can be."""
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(path.name.encode(errors='surrogateescape')).hexdigest()[:12]}-"


def is_temporary(name: str) -> bool:
    """Whether a name is one that :func:`temporary_beside` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def name_as_text(name: str) -> str:
    r"""A file system's name as text that UTF-8 can hold, one to one: a byte that is not UTF-8 becomes ``\xff``.

    A backslash is doubled where it would look like such a byte.

    >>> print(name_as_text("smear\udcff"), name_as_text(r"smear\xff"), name_as_text(r"a\b"))
    smear\xff smear\\xff a\b
    """
    doubled = _ESCAPED_ALIKE.sub(lambda match: match.group() * 2, name)
    return _NOT_UTF8.sub(lambda match: f"\\x{ord(match.group()) - 0xDC00:02x}", doubled)


def name_of_text(text: str) -> str:
    r"""The name that :func:`name_as_text` gave as ``text``.

    >>> [name_of_text(text) for text in (r"smear\xff", r"smear\\xff", r"a\b")]
    ['smear\udcff', 'smear\\xff', 'a\\b']
    """

    def undone(match: re.Match[str]) -> str:
        backslashes, byte = match.groups()
        half = "\\" * (len(backslashes) // 2)
        return half + (chr(0xDC00 + int(byte, 16)) if len(backslashes) % 2 else f"x{byte}")

    return _BYTE_IN_TEXT.sub(undone, text)


def name_shown(name: str) -> str:
    r"""A name as one line of text for a person: control characters are made visible.

    >>> print(name_shown("a\nb"))
    a\nb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name_as_text(name))

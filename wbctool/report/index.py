"""index.html: every slide of a run in one table that can be sorted, with its report behind its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.report import texts
from wbctool.report.facts import OutOfRange
from wbctool.report.page import render_page
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.slide_results import FieldFailure, SlideStatus
from wbctool.wording import number_of


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One slide. row: its values of COUNTS_COLUMNS. link: the report's address from the page; empty where none is.

    readers: who reviewed it. patient: whose slide it is; empty where nothing says so. out_of_range: as
    wbctool.report.facts has it.
    """

    row: tuple[str, ...]
    link: str
    failures: tuple[FieldFailure, ...]
    readers: tuple[str, ...]
    patient: str = ""
    out_of_range: OutOfRange = field(default_factory=dict)

    def __getitem__(self, column: str) -> str:
        """The value of a column of counts.csv."""
        return self.row[COUNTS_COLUMNS.index(column)]

    @property
    def flags(self) -> list[str]:
        """Its flags, in order."""
        return [flag for flag in self["flags"].split(";") if flag]

    def beyond(self, label: str) -> str:
        """What is low or high of a class, in words; empty where nothing is."""
        found = self.out_of_range.get(label, {})
        return ", ".join(texts.INDEX_BEYOND[what].format(flag=flag) for what, flag in found.items())


def render_index(rows: Sequence[IndexRow]) -> str:
    """The page as HTML; the same rows give the same bytes."""
    heads = dict(texts.INDEX_HEADS)
    if not any(row.patient for row in rows):
        del heads["patient"]
    counts = Counter(row["status"] for row in rows)
    return render_page(
        "index.html.j2",
        "index.css",
        ("index.js",),
        rows=rows,
        heads=heads,
        classes=[label.value for label in DIFFERENTIAL_CLASSES],
        summary=texts.INDEX_COUNTS.format(
            slides=number_of(len(rows), "slide"),
            counts=", ".join(f"{counts[status]} {status.value}" for status in SlideStatus if counts[status]),
        ),
        reviewed=sum(bool(row.readers) for row in rows),
    )

"""index.html: every slide of a run in one table that can be sorted, with its report behind its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.report import strings
from wbctool.report.render import render_page
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.text import pluralize
from wbctool.types.results import FieldFailure, OutOfRange, SlideStatus


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One slide. values: its values of COUNTS_COLUMNS. link: the report's address from the page; empty where none is.

    readers: who reviewed it. patient: whose slide it is; empty where nothing says so. out_of_range: by
    class, which of its values are low or high.
    """

    values: tuple[str, ...]
    link: str
    failures: tuple[FieldFailure, ...]
    readers: tuple[str, ...]
    patient: str = ""
    out_of_range: OutOfRange = field(default_factory=dict)

    def __getitem__(self, column: str) -> str:
        """The value of a column of counts.csv."""
        return self.values[COUNTS_COLUMNS.index(column)]

    @property
    def flags(self) -> list[str]:
        """Its flags, in order."""
        return [flag for flag in self["flags"].split(";") if flag]

    def out_of_range_text(self, label: str) -> str:
        """What is low or high of a class, in words; empty where nothing is."""
        flags_by_quantity = self.out_of_range.get(label, {})
        return ", ".join(strings.INDEX_OUT_OF_RANGE[what].format(flag=flag) for what, flag in flags_by_quantity.items())


def render_index(rows: Sequence[IndexRow]) -> str:
    """The page as HTML; the same rows give the same bytes."""
    headings = dict(strings.INDEX_HEADINGS)
    if not any(row.patient for row in rows):
        del headings["patient"]
    counts = Counter(row["status"] for row in rows)
    return render_page(
        "index.html.j2",
        "index.css",
        ("index.js",),
        rows=rows,
        heads=headings,
        classes=[label.value for label in DIFFERENTIAL_CLASSES],
        summary=strings.INDEX_COUNTS.format(
            slides=pluralize(len(rows), "slide"),
            counts=", ".join(f"{counts[status]} {status.value}" for status in SlideStatus if counts[status]),
        ),
        reviewed=sum(bool(row.readers) for row in rows),
    )

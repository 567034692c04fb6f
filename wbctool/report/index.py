"""index.html: a sortable table of all slides of a run, with links to their reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wbctool.labels import DIFFERENTIAL_CLASSES
from wbctool.report import index_strings, strings
from wbctool.report.csv_tables import split_flags
from wbctool.report.render import render_page
from wbctool.report.summary import find_severity
from wbctool.text import pluralize
from wbctool.types.differential import Flag
from wbctool.types.results import FieldFailure, OutOfRange, SlideStatus


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One slide in the table.

    Attributes:
        counts: The slide's row of counts.csv, by column.
        link: URL of the report relative to the page; empty if there is no report.
        failures: Fields that failed.
        readers: Initials of the readers who reviewed the slide.
        patient: Patient from slides.csv; empty if not given.
        out_of_range: Which values of each class are low or high.
        ended_readers: Initials of the readers whose reviews ended, as other cells were found; None if none ended.
    """

    counts: Mapping[str, str]
    link: str
    failures: tuple[FieldFailure, ...]
    readers: tuple[str, ...]
    patient: str = ""
    out_of_range: OutOfRange = field(default_factory=dict)
    ended_readers: tuple[str, ...] | None = None

    def __getitem__(self, column: str) -> str:
        """Return the value of a column of counts.csv."""
        return self.counts[column]

    @property
    def flags(self) -> list[str]:
        """Flags of the slide, in order."""
        return split_flags(self["flags"])

    @property
    def severity(self) -> str:
        """The severity that the slide's report shows; ``waiting`` if it has none yet."""
        status = SlideStatus(self["status"])
        if status is SlideStatus.WAITING:
            return "waiting"
        has_other_remarks = bool(self.failures or any(self.out_of_range.values()))
        return find_severity(status, self.flags, int(self["review"]), has_other_remarks, bool(self.readers))

    @property
    def result_texts(self) -> list[str]:
        """The severity in words, what the verdict says against the differential, and whether fields are missing."""
        texts = [strings.SEVERITIES[self.severity]]
        if self.severity in {"check", "reviewed"}:
            not_yet = strings.NOT_YET if self.severity == "check" else ""
            verdicts = [text for flag, text in index_strings.VERDICTS.items() if flag in self.flags]
            texts += [text.format(not_yet=not_yet) for text in verdicts[:2]]
        return [*texts, index_strings.PARTIAL] if self["status"] == SlideStatus.PARTIAL else texts

    @property
    def has_possible_blasts(self) -> bool:
        """Whether some of its cells may be blasts, so that it comes before all other slides."""
        return Flag.POSSIBLE_BLASTS in self.flags

    def show_value(self, label: str) -> str:
        """Return the percentage of a class, or the range that the cells in review leave open on an unfamiliar slide."""
        review = int(self["review"])
        if Flag.UNFAMILIAR not in self.flags or not review:
            return self.show_percent(f"{label}_pct")
        n, total = int(self[f"{label}_n"]), int(self["counted"]) + review
        return f"{strings.show_percent(100 * n / total)}\u2013{strings.show_percent(100 * (n + review) / total)}"

    def show_percent(self, column: str) -> str:
        """Return a percentage with one decimal as the report has it, from the number of cells that it comes from."""
        text, counted = self[column], int(self["counted"])
        n = round(float(text) * counted / 100) if text else 0  # rounding the two decimals again could differ
        return strings.show_percent(100 * n / counted) if text and counted else text

    @property
    def review_text(self) -> str:
        """Who reviewed the slide, or whose review ended; empty if nobody has reviewed it."""
        if self.readers or self.ended_readers is None:
            return ", ".join(self.readers)
        return index_strings.REVIEW_ENDED.format(readers=", ".join(self.ended_readers)).strip()

    def out_of_range_text(self, label: str) -> str:
        """Describe which quantities of a class are low or high; empty if none is."""
        flags_by_quantity = self.out_of_range.get(label, {})
        return ", ".join(
            index_strings.OUT_OF_RANGE[quantity].format(flag=flag) for quantity, flag in flags_by_quantity.items()
        )


def render_index(rows: Sequence[IndexRow], notices: Sequence[str] = ()) -> str:
    """Return the page as HTML; the same rows and notices give the same bytes."""
    headings = dict(index_strings.HEADINGS)
    if not any(row.patient for row in rows):
        del headings["patient"]
    return render_page(
        "index.html.j2",
        "index.css",
        ("index.js",),
        texts=index_strings,
        rows=rows,
        notices=notices,
        headings=headings,
        classes=[label.value for label in DIFFERENTIAL_CLASSES],
        summary=_summarize(rows),
    )


def _summarize(rows: Sequence[IndexRow]) -> str:
    """Return how many slides there are, and how many of each severity; each slide is of one."""
    counts = Counter(row.severity for row in rows)
    parts = [f"{counts[severity]} {text}" for severity, text in index_strings.SUMMARY.items() if counts[severity]]
    return f"{pluralize(len(rows), 'slide')}: {', '.join(parts)}."

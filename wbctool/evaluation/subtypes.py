"""How well the finer kinds of cells within a class are told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import SUBTYPES_BY_CLASS, CellClass


@dataclass(frozen=True, slots=True)
class SubtypeReport:
    """The subtypes of one data set's cells of one class whose label is right.

    Attributes:
        dataset: Name of the data set.
        label: The class.
        subtypes: The subtypes of the class, in order.
        confusion: Counts; one row for each true subtype, one column for each predicted one, and a last column for cells
            whose subtype is not named.
    """

    dataset: str
    label: CellClass
    subtypes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


def summarize_subtypes(cells: Iterable[EvaluatedCell]) -> tuple[SubtypeReport, ...]:
    """Compare predicted with true subtypes by data set and class.

    Args:
        cells: The cells. Those without a true subtype, and those with a wrong label, are left out.

    Returns:
        The reports; without those of which no subtype is named, as models that tell none would have.
    """
    counts = Counter(
        (cell.dataset, cell.subtype, cell.prediction.subtype) for cell in cells if cell.subtype and cell.is_correct
    )
    reports = (
        SubtypeReport(
            dataset,
            label,
            tuple(subtype.value for subtype in subtypes),
            tuple(tuple(counts[dataset, true, named] for named in (*subtypes, None)) for true in subtypes),
        )
        for dataset in sorted({dataset for dataset, _, _ in counts})
        for label, subtypes in SUBTYPES_BY_CLASS.items()
    )
    return tuple(report for report in reports if any(any(row[:-1]) for row in report.confusion))

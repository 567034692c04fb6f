"""Silent errors: wrong cells that no reader is asked about, and what becomes of cells that no class fits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.evaluation.proportion import Proportion, estimate_proportion
from wbctool.labels import CellClass, Subtype
from wbctool.report.csv_tables import csv_text, encode_csv_name
from wbctool.types.cells import Outcome, Prediction

_CSV_COLUMNS = (
    *("dataset", "image", "group", "kind", "subtype", "found", "label", "confidence", "energy", "outcome", "reason"),
)


def is_silent_error(prediction: Prediction, label: CellClass | str) -> bool:
    """Return whether a cell is counted under a wrong class, or is a white cell filed as no white cell.

    Args:
        prediction: The prediction for the cell.
        label: Its true class, or its kind if no class fits.
    """
    if prediction.outcome is Outcome.COUNTED:
        return prediction.label != label
    return prediction.outcome is Outcome.NOT_WBC and isinstance(label, CellClass) and label.is_leukocyte


@dataclass(frozen=True, slots=True)
class EvaluatedCell:
    """A labeled cell with the prediction that a run would make for it.

    Attributes:
        dataset: The data set.
        image: File name of the image.
        group: What is never divided between splits.
        kind: The true class, or the kind that no class of the model fits.
        subtype: The finer kind of the cell; None if the data do not tell it.
        prediction: Label and outcome.
        is_found: Whether a run detects the cell. If not, the prediction is the classifier's for the place where the
            cell is, and its outcome does not happen.
    """

    dataset: str
    image: str
    group: str
    kind: CellClass | str
    subtype: Subtype | None
    prediction: Prediction
    is_found: bool

    @property
    def is_white_cell(self) -> bool:
        """Whether the true class is one of the differential."""
        return isinstance(self.kind, CellClass) and self.kind.is_leukocyte

    @property
    def is_correct(self) -> bool:
        """Whether the prediction's label is the true class."""
        return self.prediction.label == self.kind

    @property
    def is_counted(self) -> bool:
        """Whether a run counts the cell."""
        return self.has_outcome(Outcome.COUNTED)

    @property
    def is_silent_error(self) -> bool:
        """Whether a run finds the cell and files it wrongly without asking a reader."""
        return self.is_found and is_silent_error(self.prediction, self.kind)

    @property
    def is_missed(self) -> bool:
        """Whether a run should detect the cell and does not; it need not detect platelets."""
        return not self.is_found and self.kind != CellClass.PLATELET

    def has_outcome(self, outcome: Outcome) -> bool:
        """Return whether a run finds the cell and gives it this outcome."""
        return self.is_found and self.prediction.outcome is outcome


@dataclass(frozen=True, slots=True)
class SilentErrorReport:
    """Silent errors of one data set, and the coverage that is paid for avoiding them.

    All proportions have intervals by group.

    Attributes:
        dataset: Name of the data set.
        cells: Number of cells with a class that the model knows.
        n_groups: Number of groups that the cells come from.
        silent_errors: Silent errors among all cells.
        coverage: Counted cells among all cells.
        coverage_white_cells: Counted cells among the white cells; None if there are none.
        accuracy: Cells with the true label among all cells, whether found, counted or neither.
        accuracy_counted: Cells with the true label among the counted ones; None if there are none.
        missed: Number of cells that a run does not find.
    """

    dataset: str
    cells: int
    n_groups: int
    silent_errors: Proportion
    coverage: Proportion
    coverage_white_cells: Proportion | None
    accuracy: Proportion
    accuracy_counted: Proportion | None
    missed: int


@dataclass(frozen=True, slots=True)
class UnknownKindReport:
    """What becomes of the cells of one kind that no class of the model fits.

    Attributes:
        dataset: Name of the data set.
        kind: The kind.
        cells: Number of cells.
        n_groups: Number of groups that the cells come from.
        counted: Cells that are wrongly counted, with an interval by group.
        counted_as: Number of counted cells by the class that they are counted under.
        review: Number of cells in review.
        not_wbc: Number of cells filed as no white cell.
        missed: Number of cells that a run does not find.
    """

    dataset: str
    kind: str
    cells: int
    n_groups: int
    counted: Proportion
    counted_as: dict[str, int]
    review: int
    not_wbc: int
    missed: int


def summarize_silent_errors(
    cells: Iterable[EvaluatedCell], classes: Sequence[CellClass]
) -> tuple[SilentErrorReport, ...]:
    """Summarize the cells of known classes by data set.

    Args:
        cells: The cells.
        classes: Classes of the model; cells of other kinds are left out.

    Returns:
        One report a data set, in order of their names.
    """
    members: dict[str, list[EvaluatedCell]] = {}
    for cell in cells:
        if cell.kind in classes:
            members.setdefault(cell.dataset, []).append(cell)
    return tuple(_summarize_dataset(dataset, members[dataset]) for dataset in sorted(members))


def summarize_unknown_kinds(
    cells: Iterable[EvaluatedCell], classes: Sequence[CellClass]
) -> tuple[UnknownKindReport, ...]:
    """Summarize the cells that no class of the model fits, by data set and kind.

    Args:
        cells: The cells.
        classes: Classes of the model; cells of these are left out.

    Returns:
        One report a data set and kind, in order of their names.
    """
    members: dict[tuple[str, str], list[EvaluatedCell]] = {}
    for cell in cells:
        if cell.kind not in classes:
            members.setdefault((cell.dataset, str(cell.kind)), []).append(cell)
    return tuple(_summarize_kind(dataset, kind, members[dataset, kind]) for dataset, kind in sorted(members))


def evaluated_cells_csv(cells: Iterable[EvaluatedCell], classes: Sequence[CellClass]) -> str:
    """Return a table with a row for each cell, and the probability of each class.

    Args:
        cells: The cells.
        classes: Classes of the model, in order.
    """
    columns = (*_CSV_COLUMNS, *(f"p_{label}" for label in classes), "predicted_subtype")
    return csv_text(columns, map(_to_row, cells))


def _summarize_dataset(dataset: str, cells: Sequence[EvaluatedCell]) -> SilentErrorReport:
    """Summarize the cells of known classes of one data set."""
    return SilentErrorReport(
        dataset=dataset,
        cells=len(cells),
        n_groups=len({cell.group for cell in cells}),
        silent_errors=estimate_proportion(*_trials(cells, lambda cell: cell.is_silent_error)),
        coverage=estimate_proportion(*_trials(cells, lambda cell: cell.is_counted)),
        coverage_white_cells=Proportion.estimate(
            *_trials([c for c in cells if c.is_white_cell], lambda cell: cell.is_counted)
        ),
        accuracy=estimate_proportion(*_trials(cells, lambda cell: cell.is_correct)),
        accuracy_counted=Proportion.estimate(
            *_trials([c for c in cells if c.is_counted], lambda cell: cell.is_correct)
        ),
        missed=sum(cell.is_missed for cell in cells),
    )


def _summarize_kind(dataset: str, kind: str, cells: Sequence[EvaluatedCell]) -> UnknownKindReport:
    """Summarize the cells of one unknown kind of one data set."""
    counted_as = Counter(cell.prediction.label.value for cell in cells if cell.is_counted)
    return UnknownKindReport(
        dataset=dataset,
        kind=kind,
        cells=len(cells),
        n_groups=len({cell.group for cell in cells}),
        counted=estimate_proportion(*_trials(cells, lambda cell: cell.is_counted)),
        counted_as=dict(counted_as.most_common()),
        review=sum(cell.has_outcome(Outcome.NEEDS_REVIEW) for cell in cells),
        not_wbc=sum(cell.has_outcome(Outcome.NOT_WBC) for cell in cells),
        missed=sum(not cell.is_found for cell in cells),
    )


def _trials(
    cells: Sequence[EvaluatedCell], succeeds: Callable[[EvaluatedCell], bool]
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return for which of the cells a predicate holds, (N,) bool, and the cells' groups."""
    return np.array([succeeds(cell) for cell in cells], bool), [cell.group for cell in cells]


def _to_row(cell: EvaluatedCell) -> tuple[str, ...]:
    """Return a cell as a row of the CSV file."""
    prediction = cell.prediction
    return (
        *map(encode_csv_name, (cell.dataset, cell.image, cell.group, cell.kind)),
        cell.subtype or "",
        "true" if cell.is_found else "false",
        *(prediction.label.value, f"{prediction.confidence:.4f}", f"{prediction.energy:.4f}"),
        *(prediction.outcome.value, prediction.reason.value),
        *(f"{probability:.4f}" for probability in prediction.probabilities),
        prediction.subtype or "",
    )

"""What an adaptation is worth: the shipped readers and the adapted ones on the same cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from wbctool.adaptation.cells import Label
from wbctool.evaluation.metrics import McNemarResult, mcnemar_by_group
from wbctool.evaluation.proportion import Proportion, estimate_proportion
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction

_SIGNIFICANCE_LEVEL = 0.05
_MAX_SILENT_ERRORS = 0.02  # of the cells; significantly more are refused
_SURE = 0.95  # from this confidence of both readers on, a label that they contradict is worth a second look


@dataclass(frozen=True, slots=True)
class Figures:
    """How readers do on labeled cells; every proportion has intervals by group.

    Attributes:
        accuracy: Cells with the reader's label, among those of known classes.
        silent_errors: Cells counted under a wrong class and white cells filed as no white cell, among all.
        coverage: Counted cells among all.
        recall: Cells that get the class, for each class with cells.
    """

    accuracy: Proportion
    silent_errors: Proportion
    coverage: Proportion
    recall: dict[str, Proportion]


class Refusal(Enum):
    """Why adapted readers are no better than the shipped ones."""

    NO_GAIN = auto()
    FEWER_COUNTED = auto()
    MAJORITY_CLASS = auto()
    SILENT_ERRORS = auto()
    LOST_CLASS = auto()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Shipped and adapted readers on cells that the adapted ones have not learned from.

    Attributes:
        cells: Number of cells.
        groups: Number of slides or originals that they come from.
        before: The shipped readers, as a run uses them on these slides.
        after: The adapted readers.
        silent_errors_at_equal_coverage: Silent errors of the shipped readers if as many cells were counted as after the
            adaptation, the surest first.
        test: McNemar's test of the labels by group: wins are groups in which the adapted readers are right more often.
        majority_test: McNemar's test, by cell, against naming every cell by the commonest class: wins are cells of
            known classes that only the adapted readers name rightly.
        coverage_test: McNemar's test, by cell: wins are cells that only the adapted readers count.
        lost_classes: The classes of which the adapted readers are right on significantly fewer cells.
    """

    cells: int
    groups: int
    before: Figures
    after: Figures
    silent_errors_at_equal_coverage: Proportion
    test: McNemarResult
    majority_test: McNemarResult
    coverage_test: McNemarResult
    lost_classes: tuple[str, ...]

    @property
    def refusal(self) -> Refusal | None:
        """Why the adapted readers are no better; None if they are.

        They are better if more labels are right, or as many and more cells are counted. If they count significantly
        fewer cells, fewer errors must be silent. They must be significantly better than naming every cell by the
        commonest class (one-sided: nobody asks whether they are worse), and on no class significantly worse than the
        shipped readers. At equal coverage they must not leave more silent errors than these. If they leave more as they
        are, these must not be significantly more than 2 % of the cells.
        """
        before, after = self.before, self.after
        more_right, more_counted = after.accuracy.n - before.accuracy.n, after.coverage.n - before.coverage.n
        silent, silent_before = after.silent_errors, before.silent_errors
        if more_right < 0 or (more_right == 0 and more_counted <= 0):
            return Refusal.NO_GAIN
        if _is_significantly_worse(self.coverage_test) and silent.n >= silent_before.n:
            return Refusal.FEWER_COUNTED
        majority = self.majority_test
        if majority.wins <= majority.losses or majority.p / 2 > _SIGNIFICANCE_LEVEL:
            return Refusal.MAJORITY_CLASS
        is_significant = binomtest(silent.n, silent.total, _MAX_SILENT_ERRORS, "greater").pvalue <= _SIGNIFICANCE_LEVEL
        if silent.n > self.silent_errors_at_equal_coverage.n or (silent.n > silent_before.n and is_significant):
            return Refusal.SILENT_ERRORS
        return Refusal.LOST_CLASS if self.lost_classes else None

    @property
    def is_better(self) -> bool:
        """Whether nothing speaks against the adapted readers."""
        return self.refusal is None


def compare(
    labels: Sequence[Label], groups: Sequence[str], before: Sequence[Prediction], after: Sequence[Prediction]
) -> Comparison:
    """Compare two sets of predictions of the same cells.

    Args:
        labels: What a reader calls each cell; an empty string if no class fits.
        groups: The slide or original of each cell.
        before: The predictions of the shipped readers.
        after: The predictions of adapted readers that have not learned from the cell's group.

    Returns:
        The comparison.

    Raises:
        ValueError: No cell is of a class.
    """
    known = np.array([isinstance(label, CellClass) for label in labels], bool)
    if not known.any():
        raise ValueError("no cell is of a class")
    known_groups = [group for group, is_known in zip(groups, known, strict=True) if is_known]
    counted_before, counted_after = _counted(before), _counted(after)
    correct_before, correct_after = _correct(labels, before)[known], _correct(labels, after)[known]
    of_class = [label for label in labels if isinstance(label, CellClass)]
    commonest = Counter(of_class).most_common(1)[0][0]
    is_commonest = np.array([label == commonest for label in of_class], bool)
    lost_classes = []
    for label in (label for label in CellClass if label in of_class):
        members = np.array([other is label for other in of_class], bool)
        if _is_significantly_worse(_test_by_cell(correct_after[members], correct_before[members])):
            lost_classes.append(label.value)
    return Comparison(
        cells=len(labels),
        groups=len(set(groups)),
        before=_measure(labels, groups, before),
        after=_measure(labels, groups, after),
        silent_errors_at_equal_coverage=estimate_proportion(
            _find_silent_errors(labels, before, int(counted_after.sum())), groups
        ),
        test=mcnemar_by_group(correct_after, correct_before, known_groups),
        majority_test=_test_by_cell(correct_after, is_commonest),
        coverage_test=_test_by_cell(counted_after, counted_before),
        lost_classes=tuple(lost_classes),
    )


def _test_by_cell(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> McNemarResult:
    """Return McNemar's test of two methods on cells that each count alone."""
    return mcnemar_by_group(one, other, list(map(str, range(len(one)))))


def _is_significantly_worse(test: McNemarResult) -> bool:
    """Return whether the first method is significantly worse."""
    return test.losses > test.wins and test.p <= _SIGNIFICANCE_LEVEL


def _find_silent_errors(
    labels: Sequence[Label], predictions: Sequence[Prediction], n_counted: int
) -> NDArray[np.bool_]:
    """Return which cells are silent errors if so many cells are counted, the surest first.

    Cells that are taken for no white cells are not counted; they stay errors if they are white cells.
    """
    silent = np.array(
        [
            p.outcome is Outcome.NOT_WBC and is_silent_error(p, label)
            for p, label in zip(predictions, labels, strict=True)
        ]
    )
    may_count = [index for index, p in enumerate(predictions) if p.outcome is not Outcome.NOT_WBC]
    for index in sorted(may_count, key=lambda index: -_sureness(predictions[index]))[:n_counted]:
        silent[index] = predictions[index].label != labels[index]
    return silent


def find_doubtful_labels(labels: Sequence[Label], predictions: Sequence[Prediction]) -> list[int]:
    """Find labels that both readers surely contradict, for a second look.

    Args:
        labels: What a reader calls each cell.
        predictions: The predictions of readers that have not learned from the cell's group.

    Returns:
        The indices of the cells, the surest contradiction first.
    """
    doubtful = [
        index
        for index, (label, p) in enumerate(zip(labels, predictions, strict=True))
        if label and p.label != label and _sureness(p) >= _SURE
    ]
    return sorted(doubtful, key=lambda index: -_sureness(predictions[index]))


def _sureness(prediction: Prediction) -> float:
    """Return the readers' confidence in the label; below any confidence if one takes the cell for no class."""
    return -1.0 if prediction.unknown_kind is not None else prediction.confidence


def _measure(labels: Sequence[Label], groups: Sequence[str], predictions: Sequence[Prediction]) -> Figures:
    """Return the figures of some predictions."""
    correct = _correct(labels, predictions)
    known = np.array([isinstance(label, CellClass) for label in labels], bool)
    recall = {}
    for label in CellClass:
        members = np.array([other == label for other in labels], bool)
        if members.any():
            recall[label.value] = estimate_proportion(correct[members], _select(groups, members))
    return Figures(
        accuracy=estimate_proportion(correct[known], _select(groups, known)),
        silent_errors=estimate_proportion(np.array(list(map(is_silent_error, predictions, labels)), bool), groups),
        coverage=estimate_proportion(_counted(predictions), groups),
        recall=recall,
    )


def _correct(labels: Sequence[Label], predictions: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Return whether each cell gets its label."""
    return np.array([p.label == label for p, label in zip(predictions, labels, strict=True)], bool)


def _counted(predictions: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Return whether each cell is counted."""
    return np.array([p.outcome is Outcome.COUNTED for p in predictions], bool)


def _select(groups: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    """Return the groups of the masked cells."""
    return [group for group, is_chosen in zip(groups, mask, strict=True) if is_chosen]

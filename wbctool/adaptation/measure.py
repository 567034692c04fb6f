"""What an adaptation is worth: the shipped readers and the adapted ones on the same cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.cells import Label
from wbctool.evaluation.metrics import McNemarResult, mcnemar_by_group
from wbctool.evaluation.proportion import Proportion, estimate_proportion
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction

MAX_GUESS_P = 0.05  # that readers know no more than the commonest class
_SURE = 0.95  # from this confidence of both readers on, a label that they contradict is worth a second look


@dataclass(frozen=True, slots=True)
class Figures:
    """How readers do on labeled cells; every proportion has intervals by group.

    Attributes:
        accuracy: Cells with the reader's label, among those of known classes.
        silent_errors: Cells counted under a wrong class and white cells filed as no white cell, among all.
        coverage: Counted cells among all.
        recall: For each class with cells, those that get the class.
    """

    accuracy: Proportion
    silent_errors: Proportion
    coverage: Proportion
    recall: dict[str, Proportion]


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
        guess_test: McNemar's test, by cell, against naming every cell by the commonest class: wins are cells of known
            classes that only the adapted readers name rightly.
    """

    cells: int
    groups: int
    before: Figures
    after: Figures
    silent_errors_at_equal_coverage: Proportion
    test: McNemarResult
    guess_test: McNemarResult

    @property
    def is_guess(self) -> bool:
        """Whether the adapted readers may be right no more often than the commonest class alone."""
        return self.guess_test.wins <= self.guess_test.losses or self.guess_test.p > MAX_GUESS_P

    @property
    def gains(self) -> bool:
        """Whether more labels are right, or as many and more cells are counted."""
        right_before, right_after = self.before.accuracy.n, self.after.accuracy.n
        return right_after > right_before or (
            right_after == right_before and self.after.coverage.n > self.before.coverage.n
        )

    @property
    def adds_silent_errors(self) -> bool:
        """Whether more errors are silent than those of the shipped readers at equal coverage."""
        return self.after.silent_errors.n > self.silent_errors_at_equal_coverage.n

    @property
    def is_better(self) -> bool:
        """Whether the adapted readers gain something, do not guess, and add no silent errors."""
        return self.gains and not self.is_guess and not self.adds_silent_errors


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
    n_counted = sum(p.outcome is Outcome.COUNTED for p in after)
    correct_after = _correct(labels, after)[known]
    of_class = [label for label in labels if isinstance(label, CellClass)]
    commonest = Counter(of_class).most_common(1)[0][0]
    is_commonest = np.array([label == commonest for label in of_class], bool)
    return Comparison(
        cells=len(labels),
        groups=len(set(groups)),
        before=_measure(labels, groups, before),
        after=_measure(labels, groups, after),
        silent_errors_at_equal_coverage=estimate_proportion(_count_surest(labels, before, n_counted), groups),
        test=mcnemar_by_group(correct_after, _correct(labels, before)[known], known_groups),
        guess_test=mcnemar_by_group(correct_after, is_commonest, list(map(str, range(len(of_class))))),
    )


def _count_surest(labels: Sequence[Label], predictions: Sequence[Prediction], n_counted: int) -> NDArray[np.bool_]:
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
        coverage=estimate_proportion(np.array([p.outcome is Outcome.COUNTED for p in predictions], bool), groups),
        recall=recall,
    )


def _correct(labels: Sequence[Label], predictions: Sequence[Prediction]) -> NDArray[np.bool_]:
    """Return whether each cell gets its label."""
    return np.array([p.label == label for p, label in zip(predictions, labels, strict=True)], bool)


def _select(groups: Sequence[str], mask: NDArray[np.bool_]) -> list[str]:
    """Return the groups of the masked cells."""
    return [group for group, is_chosen in zip(groups, mask, strict=True) if is_chosen]

"""What another precision changes: the same cells classified in it and in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wbctool.labels import CellClass
from wbctool.types.cells import Prediction


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """One data set's cells in another precision, compared with fp32.

    Attributes:
        dataset: Name of the data set.
        images: Number of images, one cell each.
        accuracy_fp32: Accuracy in fp32, in [0, 1]; cells in review count too.
        accuracy: Accuracy in the other precision, in [0, 1].
        changed_labels: Number of cells whose most probable class differs.
        changed_outcomes: Number of cells whose outcome (counted, review, not WBC) differs.
    """

    dataset: str
    images: int
    accuracy_fp32: float
    accuracy: float
    changed_labels: int
    changed_outcomes: int


def compare_precisions(
    dataset: str, labels: Sequence[CellClass], fp32: Sequence[Prediction], other: Sequence[Prediction]
) -> PrecisionReport:
    """Compare predictions in another precision with predictions in fp32.

    Args:
        dataset: Name of the data set.
        labels: The true classes.
        fp32: Predictions of the same cells in fp32, in the same order.
        other: Predictions of the same cells in the other precision, in the same order.
    """
    return PrecisionReport(
        dataset=dataset,
        images=len(labels),
        accuracy_fp32=accuracy(fp32, labels),
        accuracy=accuracy(other, labels),
        changed_labels=count_changed_labels(fp32, other),
        changed_outcomes=count_changed_outcomes(fp32, other),
    )


def accuracy(predictions: Sequence[Prediction], labels: Sequence[CellClass]) -> float:
    """Return the accuracy, in [0, 1]; cells in review count too."""
    return float(np.mean([p.label is label for p, label in zip(predictions, labels, strict=True)]))


def count_changed_labels(fp32: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    """Count the cells whose most probable class differs."""
    return sum(a.label is not b.label for a, b in zip(fp32, other, strict=True))


def count_changed_outcomes(fp32: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    """Count the cells whose outcome (counted, review, not WBC) differs."""
    return sum(a.outcome is not b.outcome for a, b in zip(fp32, other, strict=True))

"""What the models' arithmetic changes: the same cells named in another precision and in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wbctool.labels import CellClass
from wbctool.types.cells import Prediction


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """One data set's cells in another precision against fp32. accuracy: per image, review cells too.

    changed_labels: cells with another likeliest class. count_changed_outcomes: those that go elsewhere (counted, review, no
    white cell).
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
    """labels: the true ones; all three of the same cells, in the same order."""
    return PrecisionReport(
        dataset=dataset,
        images=len(labels),
        accuracy_fp32=accuracy(fp32, labels),
        accuracy=accuracy(other, labels),
        changed_labels=count_changed_labels(fp32, other),
        changed_outcomes=count_changed_outcomes(fp32, other),
    )


def accuracy(predictions: Sequence[Prediction], labels: Sequence[CellClass]) -> float:
    """The accuracy, in [0, 1], review cells too."""
    return float(np.mean([p.label is label for p, label in zip(predictions, labels, strict=True)]))


def count_changed_labels(fp32: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    """Cells with another likeliest class."""
    return sum(a.label is not b.label for a, b in zip(fp32, other, strict=True))


def count_changed_outcomes(fp32: Sequence[Prediction], other: Sequence[Prediction]) -> int:
    """Cells that go elsewhere: counted, review, no white cell."""
    return sum(a.outcome is not b.outcome for a, b in zip(fp32, other, strict=True))

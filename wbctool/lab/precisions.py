"""What the models' arithmetic changes: the same cells named in another precision and in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wbctool.labels import CellClass
from wbctool.records import Prediction


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """One data set's cells in another precision against fp32. accuracy: per image, review cells too.

    changed_labels: cells with another likeliest class. changed_outcomes: those counted in one and not in the other.
    """

    origin: str
    images: int
    accuracy_fp32: float
    accuracy: float
    changed_labels: int
    changed_outcomes: int


def compare_precisions(
    origin: str, labels: Sequence[CellClass], fp32: Sequence[Prediction], other: Sequence[Prediction]
) -> PrecisionReport:
    """labels: the true ones; all three of the same cells, in the same order."""

    def accuracy(predictions: Sequence[Prediction]) -> float:
        return float(np.mean([p.label is label for p, label in zip(predictions, labels, strict=True)]))

    pairs = list(zip(fp32, other, strict=True))
    return PrecisionReport(
        origin=origin,
        images=len(labels),
        accuracy_fp32=accuracy(fp32),
        accuracy=accuracy(other),
        changed_labels=sum(a.label is not b.label for a, b in pairs),
        changed_outcomes=sum(a.outcome is not b.outcome for a, b in pairs),
    )

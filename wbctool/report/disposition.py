"""Where a cell stands for a reader: in a class, in review, or outside as an artefact; and what moving it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction, Reason

REVIEW = "review"
ARTIFACT = "artefact"
CATEGORIES: tuple[str, ...] = (*CellClass, REVIEW, ARTIFACT)

_NON_WBC_REASONS = {CellClass.ERYTHROBLAST: Reason.ERYTHROBLAST, CellClass.PLATELET: Reason.PLATELET}


def category_of(prediction: Prediction) -> str:
    """One of PLACES."""
    if prediction.outcome is Outcome.NEEDS_REVIEW:
        return REVIEW
    return ARTIFACT if prediction.reason is Reason.ARTIFACT else prediction.label.value


def reclassify(original: Prediction, category: str, model_classes: Sequence[CellClass]) -> Prediction:
    """What the tool said of a cell, once a reader has put it to ``category``; the model's probabilities stay as they are.

    The label is then the reader's and the confidence is what the model gave to it. Back where the tool had it, a cell
    is what it was. A counted cell that is sent to review has low confidence: the reader's.
    model_classes: the model's classes, in the order of the probabilities; a class outside them raises ValueError.
    """
    if category == category_of(original):
        return original
    if category == REVIEW:
        return replace(original, outcome=Outcome.NEEDS_REVIEW, reason=Reason.LOW_CONFIDENCE)
    if category == ARTIFACT:
        return replace(original, outcome=Outcome.NOT_WBC, reason=Reason.ARTIFACT)
    label = CellClass(category)
    return replace(
        original,
        label=label,
        confidence=original.probabilities[model_classes.index(label)],
        outcome=Outcome.NOT_WBC if label in _NON_WBC_REASONS else Outcome.COUNTED,
        reason=_NON_WBC_REASONS.get(label, Reason.NONE),
    )

"""The category in which a report shows a cell: a class, review or artifact; and reclassification by a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wbctool.labels import CellClass
from wbctool.types.cells import NON_WBC_REASONS, Outcome, Prediction, Reason

IN_REVIEW = "review"
ARTIFACT = "artefact"
CATEGORIES: tuple[str, ...] = (*CellClass, IN_REVIEW, ARTIFACT)
CLASS_KEYS: dict[str, str] = {label: str(number) for number, label in enumerate(CellClass, start=1)}
CATEGORY_KEYS: dict[str, str] = {**CLASS_KEYS, IN_REVIEW: "r", ARTIFACT: "x"}
"""The key that moves a cell to each category; the page of `wbctool label` has the same for the classes."""


def category_of(prediction: Prediction) -> str:
    """Return the category of a cell, one of ``CATEGORIES``."""
    if prediction.outcome is Outcome.NEEDS_REVIEW:
        return IN_REVIEW
    return ARTIFACT if prediction.reason is Reason.ARTIFACT else prediction.label.value


def reclassify(original: Prediction, category: str, model_classes: Sequence[CellClass]) -> Prediction:
    """Return the prediction after a reader has moved a cell to another category.

    The label becomes the reader's, and the confidence is the model's probability of that label; a subtype of another
    label goes. Moving a cell back to its original category restores the original prediction. A cell moved to review has
    the reason ``low_confidence``.

    Args:
        original: The prediction of the model.
        category: The reader's category, one of ``CATEGORIES``.
        model_classes: The classes of the model, in the order of the probabilities.

    Raises:
        ValueError: ``category`` is not in ``CATEGORIES``, or the model does not know the class.
    """
    if category == category_of(original):
        return original
    if category == IN_REVIEW:
        return replace(original, outcome=Outcome.NEEDS_REVIEW, reason=Reason.LOW_CONFIDENCE)
    if category == ARTIFACT:
        return replace(original, outcome=Outcome.NOT_WBC, reason=Reason.ARTIFACT)
    label = CellClass(category)
    return replace(
        original,
        label=label,
        confidence=original.probabilities[model_classes.index(label)],
        outcome=Outcome.NOT_WBC if label in NON_WBC_REASONS else Outcome.COUNTED,
        reason=NON_WBC_REASONS.get(label, Reason.NONE),
        subtype=original.subtype if label is original.label else None,
    )

"""Where a cell stands for a reader: in a class, in review, or outside as an artefact; and what moving it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wbctool.labels import CellClass
from wbctool.records import Outcome, Prediction, Reason

REVIEW = "review"
ARTEFACT = "artefact"
PLACES: tuple[str, ...] = (*CellClass, REVIEW, ARTEFACT)

_OUTSIDE = {CellClass.ERYTHROBLAST: Reason.ERYTHROBLAST, CellClass.PLATELET: Reason.PLATELET}


def place_of(prediction: Prediction) -> str:
    """One of PLACES."""
    if prediction.outcome is Outcome.REVIEW:
        return REVIEW
    return ARTEFACT if prediction.reason is Reason.ARTEFACT else prediction.label.value


def moved(original: Prediction, place: str, known: Sequence[CellClass]) -> Prediction:
    """What the tool said of a cell, once a reader has put it to ``place``; the model's probabilities stay as they are.

    The label is then the reader's and the confidence is what the model gave to it. Back where the tool had it, a cell
    is what it was. A counted cell that is sent to review has low confidence: the reader's.
    known: the model's classes, in the order of the probabilities; a class outside them raises ValueError.
    """
    if place == place_of(original):
        return original
    if place == REVIEW:
        return replace(original, outcome=Outcome.REVIEW, reason=Reason.LOW_CONFIDENCE)
    if place == ARTEFACT:
        return replace(original, outcome=Outcome.NOT_WBC, reason=Reason.ARTEFACT)
    label = CellClass(place)
    return replace(
        original,
        label=label,
        confidence=original.probabilities[known.index(label)],
        outcome=Outcome.NOT_WBC if label in _OUTSIDE else Outcome.COUNTED,
        reason=_OUTSIDE.get(label, Reason.NONE),
    )

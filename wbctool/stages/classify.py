"""Naming each cell, and saying where the model does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.errors import ModelMismatch
from wbctool.inference.classifier_head import DenseHead
from wbctool.inference.model_card import ClassifierCard
from wbctool.inference.session import OnnxModel
from wbctool.labels import CellClass
from wbctool.stages.gradcam import grad_cam
from wbctool.types.cells import Outcome, Prediction, Reason

_NON_WBC_REASONS = {CellClass.ERYTHROBLAST: Reason.ERYTHROBLAST, CellClass.PLATELET: Reason.PLATELET}


def classify_cells(
    rgb: NDArray[np.uint8], model: OnnxModel[ClassifierCard], head: DenseHead | None = None
) -> tuple[Prediction, ...]:
    """rgb: (N, 128, 128, 3) uint8, RGB -> one prediction a cell, in order.

    head: the model's dense layers; with them each prediction says where its class was seen.
    """
    if not len(rgb):
        return ()
    logits, *extra_outputs = model.run(rgb)
    predictions = predictions_from_logits(logits, model.card)
    if head is None or len(extra_outputs) != 2:
        return predictions
    class_indices = (model.card.classes.index(prediction.label) for prediction in predictions)
    cams = (grad_cam(one, label, head) for one, label in zip(extra_outputs[1], class_indices, strict=True))
    return tuple(replace(p, cam=seen) for p, seen in zip(predictions, cams, strict=True))


def predictions_from_logits(logits: NDArray[np.float32], card: ClassifierCard) -> tuple[Prediction, ...]:
    """logits: (N, classes) -> predictions.

    Probabilities are softmax(logits / temperature) (Guo 2017, arXiv 1706.04599); the energy is -logsumexp(logits)
    (Liu 2020, arXiv 2010.03759). Raises ModelMismatch where a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise ModelMismatch(f"{card.file} gave non-finite values for a cell")
    probabilities = softmax(logits.astype(np.float64) / card.temperature, axis=1)
    energies = -logsumexp(logits.astype(np.float64), axis=1)
    return tuple(_triage(p, float(e), card) for p, e in zip(probabilities, energies, strict=True))


def _triage(probabilities: NDArray[np.float64], energy: float, card: ClassifierCard) -> Prediction:
    best = int(probabilities.argmax())
    label, confidence = card.classes[best], float(probabilities[best])
    if card.energy_threshold is not None and energy > card.energy_threshold:
        outcome, reason = Outcome.NEEDS_REVIEW, Reason.OUT_OF_DISTRIBUTION
    elif confidence < card.confidence_threshold:
        outcome, reason = Outcome.NEEDS_REVIEW, Reason.LOW_CONFIDENCE
    elif label in _NON_WBC_REASONS:
        outcome, reason = Outcome.NOT_WBC, _NON_WBC_REASONS[label]
    else:
        outcome, reason = Outcome.COUNTED, Reason.NONE
    return Prediction(label, confidence, tuple(probabilities.tolist()), energy, outcome, reason)

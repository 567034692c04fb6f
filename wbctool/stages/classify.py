"""Classification of cells, and the decision which cells a reader must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbctool.errors import ModelMismatch
from wbctool.inference.classifier_head import DenseHead
from wbctool.inference.model_card import ClassifierCard
from wbctool.inference.session import LAST_MAP, LOGITS, OnnxModel
from wbctool.labels import CellClass
from wbctool.stages.gradcam import grad_cam
from wbctool.types.cells import Outcome, Prediction, Reason

_NON_WBC_REASONS = {CellClass.ERYTHROBLAST: Reason.ERYTHROBLAST, CellClass.PLATELET: Reason.PLATELET}


def classify_cells(
    rgb: NDArray[np.uint8], model: OnnxModel[ClassifierCard], head: DenseHead | None = None
) -> tuple[Prediction, ...]:
    """Classify preprocessed crops.

    Args:
        rgb: (N, 128, 128, 3) uint8 RGB.
        model: The classifier.
        head: The classifier's dense layers. With them each prediction gets its Grad-CAM map; without, the last map is
            not fetched from the model.

    Returns:
        One prediction per cell, in order.

    Raises:
        ModelMismatch: The model gave a value that is not finite.
    """
    if not len(rgb):
        return ()
    if head is None:
        (logits,) = model.run(rgb, LOGITS)
        return predictions_from_logits(logits, model.card)
    logits, last_maps = model.run(rgb, LOGITS, LAST_MAP)
    predictions = predictions_from_logits(logits, model.card)
    class_indices = (model.card.classes.index(prediction.label) for prediction in predictions)
    cams = (grad_cam(last_map, index, head) for last_map, index in zip(last_maps, class_indices, strict=True))
    return tuple(replace(prediction, cam=cam) for prediction, cam in zip(predictions, cams, strict=True))


def predictions_from_logits(logits: NDArray[np.float32], card: ClassifierCard) -> tuple[Prediction, ...]:
    """Turn logits into calibrated probabilities and outcomes.

    Args:
        logits: (N, classes) float32.
        card: The classifier's card.

    Returns:
        One prediction per row. Its probabilities are softmax(logits / temperature); its energy is -logsumexp(logits).

    Raises:
        ModelMismatch: A logit is not finite.

    References:
        Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599 (the temperature).
        Liu et al. 2020, Energy-based out-of-distribution detection, arXiv 2010.03759 (the energy).
    """
    if not np.isfinite(logits).all():
        raise ModelMismatch(f"{card.file} gave non-finite values for a cell")
    probabilities = softmax(logits.astype(np.float64) / card.temperature, axis=1)
    energies = -logsumexp(logits.astype(np.float64), axis=1)
    return tuple(_triage(p, float(e), card) for p, e in zip(probabilities, energies, strict=True))


def _triage(probabilities: NDArray[np.float64], energy: float, card: ClassifierCard) -> Prediction:
    """Decide whether a cell is counted, is no white cell or goes to review."""
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

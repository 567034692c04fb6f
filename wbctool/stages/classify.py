"""Classification of cells, and the decision which cells a reader must see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import ModelMismatch
from wbctool.inference.model_card import CardT, CellClassifierCard, CompactCard
from wbctool.inference.session import CAM, FEATURES, LOGITS, SUBTYPES, OnnxModel
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.stages.familiarity import measure_familiarity
from wbctool.types.cells import NON_WBC_REASONS, Outcome, Prediction, Reason

_UNKNOWN_THRESHOLD = 0.5  # of cards that name none


def classify_cells(
    rgb: NDArray[np.uint8],
    model: OnnxModel[CellClassifierCard],
    second: OnnxModel[CompactCard] | None = None,
    *,
    with_cam: bool = False,
) -> tuple[Prediction, ...]:
    """Classify preprocessed crops by one or two readers.

    Args:
        rgb: (N, 128, 128, 3) uint8 RGB.
        model: The first reader, or the only one.
        second: The second reader; None if there is one. A cell on which the two differ goes to review.
        with_cam: Whether each prediction gets the first reader's Grad-CAM map of its label. A model that does not
            give maps is no error.

    Returns:
        One prediction per cell, in order.

    Raises:
        ModelMismatch: A model gave a value that is not finite.
    """
    if not len(rgb):
        return ()
    predictions, cams = _classify_by(rgb, model, with_cam=with_cam)
    if second is not None:
        pairs = zip(predictions, _classify_by(rgb, second)[0], strict=True)
        predictions = tuple(combine_readings(first, other, model.card) for first, other in pairs)
    if cams is None:
        return predictions
    return tuple(
        replace(prediction, cam=cam[model.card.classes.index(prediction.label)].tobytes())
        for prediction, cam in zip(predictions, cams, strict=True)
    )


def combine_readings(first: Prediction, second: Prediction, card: CellClassifierCard) -> Prediction:
    """Combine what two readers say of one cell.

    The probabilities are the mean of both readers', which was right at least as often as either alone in laboratories
    that neither was trained on (docs/models.md). The cell goes to review if the label has a smaller probability than
    the first reader's threshold, if the first reader finds the cell out of distribution, if the second takes it for a
    kind that no class fits, or if the two name different classes.

    Args:
        first: The first reader's prediction.
        second: The second reader's prediction. Its thresholds of confidence and energy do not matter: they would send
            more right cells than wrong ones to review. That of unknown kinds does.
        card: The first reader's card.

    Returns:
        The prediction of both.

    References:
        CLSI H20: the reference differential has two examiners.
    """
    probabilities = tuple(map(fmean, zip(first.probabilities, second.probabilities, strict=True)))
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    label = card.classes[best]
    outcome, reason = _file_by_label(label)
    combined = replace(
        first,
        label=label,
        confidence=probabilities[best],
        probabilities=probabilities,
        outcome=outcome,
        reason=reason,
        unknown_kind=first.unknown_kind or second.unknown_kind,
        distance=first.distance if first.distance is not None else second.distance,
        position=first.position or second.position,
        subtype=second.subtype if second.label is label else None,
    )
    if combined.confidence < card.confidence_threshold:
        combined = combined.sent_to_review(Reason.LOW_CONFIDENCE)
    if first.outcome is Outcome.NEEDS_REVIEW and first.reason is not Reason.LOW_CONFIDENCE:
        combined = combined.sent_to_review(first.reason)
    if second.unknown_kind is not None:
        return combined.sent_to_review(_unknown_kind_reason(second.unknown_kind))
    return combined if second.label is first.label else combined.sent_to_review(Reason.DISAGREEMENT)


def _classify_by(
    rgb: NDArray[np.uint8], model: OnnxModel[CardT], *, with_cam: bool = False
) -> tuple[tuple[Prediction, ...], NDArray[np.uint8] | None]:
    """Classify crops by one reader; return also the classes' Grad-CAM maps, if asked for and if the model has them."""
    assert isinstance(model.card, CellClassifierCard)
    card: CellClassifierCard = model.card
    rule = card.familiarity
    names = [LOGITS]
    if with_cam and CAM in model.output_names:
        names.append(CAM)
    if rule is not None:
        names.append(FEATURES)
    if isinstance(card, CompactCard) and card.subtypes:
        names.append(SUBTYPES)
    outputs = dict(zip(names, model.run(rgb, *names), strict=True))
    predictions = predictions_from_logits(outputs[LOGITS], card)
    if rule is not None:
        predictions = tuple(measure_familiarity(predictions, outputs[FEATURES], rule))
    if isinstance(card, CompactCard) and card.subtypes:
        predictions = name_subtypes(predictions, outputs[SUBTYPES], card)
    return predictions, outputs.get(CAM)


def predictions_from_logits(logits: NDArray[np.float32], card: CellClassifierCard) -> tuple[Prediction, ...]:
    """Turn logits into calibrated probabilities and outcomes.

    Args:
        logits: (N, classes and unknown kinds) float32.
        card: The classifier's card.

    Returns:
        One prediction per row. Its probabilities are those of the classes in softmax(logits / temperature); its energy
        is -logsumexp of the classes' logits.

    Raises:
        ModelMismatch: A logit is not finite.

    References:
        Guo et al. 2017, On calibration of modern neural networks, arXiv 1706.04599 (the temperature).
        Liu et al. 2020, Energy-based out-of-distribution detection, arXiv 2010.03759 (the energy).
    """
    # late: it takes a quarter of a second, in which `wbctool run` loads the models
    from scipy.special import logsumexp, softmax

    if not np.isfinite(logits).all():
        raise ModelMismatch(f"{card.file} gave non-finite values for a cell")
    probabilities = softmax(logits.astype(np.float64) / card.temperature, axis=1)
    energies = -logsumexp(logits[:, : len(card.classes)].astype(np.float64), axis=1)
    return tuple(_triage(p, float(e), card) for p, e in zip(probabilities, energies, strict=True))


def name_subtypes(
    predictions: Sequence[Prediction], logits: NDArray[np.float32], card: CompactCard
) -> tuple[Prediction, ...]:
    """Name the finer kind of each cell within its class.

    Args:
        predictions: The prediction of each cell.
        logits: (N, subtypes) float32, in the order of ``card.subtypes``.
        card: The compact reader's card.

    Returns:
        The predictions; those whose most probable subtype reaches the card's threshold have it. Only the subtypes of a
        cell's label compete.
    """
    return tuple(
        replace(p, subtype=_choose_subtype(p.label, row, card)) for p, row in zip(predictions, logits, strict=True)
    )


def _choose_subtype(label: CellClass, logits: NDArray[np.float32], card: CompactCard) -> Subtype | None:
    """Return the most probable subtype of a class; None if it has none, or none is probable enough."""
    from scipy.special import softmax  # late, as above

    of_label = [index for index, subtype in enumerate(card.subtypes) if subtype.label is label]
    if not of_label:
        return None
    probabilities = softmax(logits[of_label].astype(np.float64))
    best = int(probabilities.argmax())
    is_sure = probabilities[best] >= (card.subtype_threshold or 0.0)
    return card.subtypes[of_label[best]] if is_sure else None


def _triage(probabilities: NDArray[np.float64], energy: float, card: CellClassifierCard) -> Prediction:
    """Decide whether a cell is counted, is no white cell or goes to review."""
    of_classes, of_unknown = np.split(probabilities, [len(card.classes)])
    best = int(of_classes.argmax())
    label, confidence = card.classes[best], float(of_classes[best])
    is_unknown = of_unknown.sum() >= (card.unknown_threshold or _UNKNOWN_THRESHOLD)
    unknown_kind = card.unknown_kinds[int(of_unknown.argmax())] if is_unknown else None
    outcome = Outcome.NEEDS_REVIEW
    if unknown_kind is not None:
        reason = _unknown_kind_reason(unknown_kind)
    elif card.energy_threshold is not None and energy > card.energy_threshold:
        reason = Reason.OUT_OF_DISTRIBUTION
    elif confidence < card.confidence_threshold:
        reason = Reason.LOW_CONFIDENCE
    else:
        outcome, reason = _file_by_label(label)
    return Prediction(label, confidence, tuple(of_classes.tolist()), energy, outcome, reason, unknown_kind)


def _file_by_label(label: CellClass) -> tuple[Outcome, Reason]:
    """Return the outcome of a cell that nothing speaks against, and why if it is not counted."""
    if label in NON_WBC_REASONS:
        return Outcome.NOT_WBC, NON_WBC_REASONS[label]
    return Outcome.COUNTED, Reason.NONE


def _unknown_kind_reason(kind: UnknownKind) -> Reason:
    """Return why a cell of a kind that no class fits is not counted."""
    return Reason.POSSIBLE_BLAST if kind is UnknownKind.BLAST else Reason.OUT_OF_DISTRIBUTION

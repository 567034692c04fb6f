from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from wbctool.adaptation.calibration import calibrate, choose_threshold
from wbctool.inference.model_card import ClassifierCard
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Outcome, Prediction, Reason

CLASSES = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.PLATELET)
CARD = ClassifierCard(
    name="classifier", version="0", file="classifier.onnx", sha256="0" * 64, parameters=0, tool_version="test",
    recipe="by hand", training={}, classes=CLASSES, input_px=128, crop_margin=1.25, temperature=1.0,
    confidence_threshold=0.5,
)  # fmt: skip


def read(confidence: float, outcome: Outcome = Outcome.COUNTED) -> Prediction:
    return Prediction(CLASSES[0], confidence, (confidence, 1 - confidence, 0.0), 0.0, outcome, Reason.NONE)


def draw_labels(logits: np.ndarray, seed: int) -> list[CellClass]:
    """Draw labels that a softmax of the logits describes exactly."""
    rng = np.random.default_rng(seed)
    return [CLASSES[rng.choice(3, p=p)] for p in softmax(logits, axis=1)]


def test_calibrate_finds_the_temperature_and_the_energy_of_nearly_all_cells() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (4000, 3))
    card = calibrate(CARD, 3 * logits, draw_labels(logits, 1))
    assert card.temperature == pytest.approx(3, rel=0.1)
    assert card.energy_threshold is not None
    assert np.mean(-np.log(np.exp(3 * logits).sum(axis=1)) <= card.energy_threshold) == pytest.approx(0.98, abs=0.001)


def test_calibrate_without_a_cell_of_a_class_changes_nothing() -> None:
    assert calibrate(CARD, np.zeros((5, 3), np.float32), [UnknownKind.BLAST] * 5) == CARD


def test_choose_threshold_is_the_lowest_with_few_silent_errors() -> None:
    labels = [CellClass.LYMPHOCYTE] * 2 + [CellClass.NEUTROPHIL] * 98
    predictions = [read(c) for c in [0.55, 0.65, *[0.9] * 98]]
    assert choose_threshold(predictions, labels) == 0.56  # one of a hundred may stay
    assert choose_threshold([read(0.55, Outcome.NEEDS_REVIEW), *predictions[1:]], labels) == 0.4


def test_choose_threshold_takes_every_counted_cell_of_no_class_for_an_error() -> None:
    predictions = [read(0.97), read(0.97), *[read(0.9999)] * 98]
    labels = [UnknownKind.BLAST, "", *[CellClass.NEUTROPHIL] * 98]
    assert choose_threshold(predictions, labels) == 0.98


def test_choose_threshold_is_the_highest_if_none_is_enough() -> None:
    assert choose_threshold([read(1.0)] * 10, [CellClass.LYMPHOCYTE] * 10) == 0.99

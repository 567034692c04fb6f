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


def test_choose_threshold_is_the_lowest_with_few_silent_errors_expected() -> None:
    """The confidences are calibrated: ten cells at 0.88 add 1.2 errors of a hundred, the ninety at 0.995 have 0.45."""
    rng = np.random.default_rng(0)
    confidences = np.repeat([0.88, 0.995], [2000, 18000])
    labels = [CLASSES[int(is_wrong)] for is_wrong in rng.random(20000) > confidences]
    predictions = [read(c) for c in confidences]
    assert choose_threshold(predictions, CARD, labels) == 0.89
    assert choose_threshold(predictions[500:], CARD, labels[500:]) == 0.4


def test_choose_threshold_calibrates_a_mean_of_readers_that_is_less_sure_than_right() -> None:
    labels = [CellClass.NEUTROPHIL] * 100
    assert choose_threshold([read(0.8)] * 100, CARD, labels) == 0.4  # not one of them is wrong


def test_choose_threshold_heeds_errors_that_the_confidences_do_not_expect() -> None:
    labels = [CellClass.LYMPHOCYTE] * 3 + [CellClass.NEUTROPHIL] * 97
    predictions = [read(0.9)] * 3 + [read(0.9999)] * 97
    assert choose_threshold(predictions, CARD, labels) > 0.9


def test_choose_threshold_takes_every_counted_cell_of_no_class_for_an_error() -> None:
    predictions = [read(0.97), read(0.97), *[read(0.9999)] * 98]
    labels = [UnknownKind.BLAST, "", *[CellClass.NEUTROPHIL] * 98]
    assert choose_threshold(predictions, CARD, labels) == 0.98
    in_review = [read(0.97, Outcome.NEEDS_REVIEW)] * 2 + predictions[2:]
    assert choose_threshold(in_review, CARD, labels) == 0.4


def test_choose_threshold_is_the_highest_if_none_is_enough() -> None:
    assert choose_threshold([read(1.0)] * 10, CARD, [CellClass.LYMPHOCYTE] * 10) == 0.99

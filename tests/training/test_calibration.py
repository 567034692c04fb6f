"""Temperature and thresholds on simulated logits with a known answer."""

import numpy as np
import pytest
from scipy.special import softmax
from wbctool_training.calibration import fit_calibration, fit_unknown_threshold

from wbctool.inference.model_card import CompactCard, default_models_dir, load_fp32_card
from wbctool.labels import CellClass, UnknownKind


def equal_weights(number: int) -> np.ndarray:
    return np.full(number, 1 / number)


def fit(logits: np.ndarray, y_true: np.ndarray, weights: np.ndarray, n_unknown_kinds: int = 0) -> CompactCard:
    """Calibrate the card of a classifier with as many classes and unknown kinds."""
    n_classes = logits.shape[1] - n_unknown_kinds
    outputs = {"classes": tuple(CellClass)[:n_classes], "unknown_kinds": tuple(UnknownKind)[:n_unknown_kinds]}
    card = load_fp32_card(default_models_dir(), CompactCard).model_copy(update=outputs)
    return fit_calibration(card, logits.astype(np.float32), y_true, weights)


def test_fit_calibration_scaled_logits_recovers_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 4))
    y_true = np.array([rng.choice(4, p=p) for p in softmax(logits, axis=1)])
    assert fit(logits * 2.5, y_true, equal_weights(20_000)).temperature == pytest.approx(2.5, rel=0.05)


def test_fit_calibration_confidence_threshold_gives_97_percent_accuracy() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 12, (20_000, 3))
    probabilities = softmax(logits, axis=1)
    y_true = np.array([rng.choice(3, p=p) for p in probabilities])
    fitted = fit(logits, y_true, equal_weights(20_000))
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == y_true
    assert fitted.confidence_threshold > 0.4
    assert correct[confidence >= fitted.confidence_threshold].mean() >= 0.965
    assert correct[confidence >= fitted.confidence_threshold - 0.03].mean() < 0.97


def test_fit_calibration_unreachable_accuracy_counts_88_percent() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 3, (20_000, 3))
    y_true = np.where(rng.random(20_000) < 0.8, logits.argmax(axis=1), rng.integers(0, 3, 20_000))
    fitted = fit(logits, y_true, equal_weights(20_000))
    confidence = softmax(logits / fitted.temperature, axis=1).max(axis=1)
    in_distribution = -np.log(np.exp(logits).sum(axis=1)) <= fitted.energy_threshold
    shares = [((confidence >= fitted.confidence_threshold + more) & in_distribution).mean() for more in (0.0, 0.01)]
    assert shares[0] >= 0.88 > shares[1]


def test_fit_calibration_energy_threshold_excludes_2_percent() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (5000, 8))
    y_true = logits.argmax(axis=1)
    energies = -np.log(np.exp(logits).sum(axis=1))
    gate = fit(logits, y_true, equal_weights(5000)).energy_threshold
    assert (energies > gate).mean() == pytest.approx(0.02, abs=0.002)


def test_fit_calibration_thresholds_follow_weights() -> None:
    """Two of three cells are almost surely correct; the third, often wrong, has all the weight or none."""
    rng = np.random.default_rng(3)
    logits = np.zeros((3000, 2), np.float32)
    logits[:2000, 0], logits[2000:, 0] = 4.0, 1.0
    y_true = np.where(rng.random(3000) < np.where(np.arange(3000) < 2000, 0.98, 0.6), 0, 1)
    sure, doubtful = np.repeat([1, 0], [2000, 1000]), np.repeat([0, 1], [2000, 1000])
    assert fit(logits, y_true, sure / 2000).confidence_threshold == 0.4
    assert fit(logits, y_true, doubtful / 1000).confidence_threshold == pytest.approx(0.6, abs=0.03)
    assert fit(logits, y_true, sure / 2000).energy_threshold < -4.0
    assert fit(logits, y_true, doubtful / 1000).energy_threshold > -1.4


def test_fit_calibration_confidence_is_that_of_a_run_with_unknown_kinds() -> None:
    """A run takes the wrong cells for an unknown kind; among the classes alone they would be 95 % sure."""
    logits = np.log([[0.97, 0.01, 0.02]] * 95 + [[0.095, 0.005, 0.9]] * 5)
    fitted = fit(logits, np.repeat([0, 1], [95, 5]), equal_weights(100), n_unknown_kinds=1)
    assert fitted.unknown_threshold == 0.5
    assert fitted.confidence_threshold == 0.4
    without_unknown_kinds = fit(logits[:, :2], np.repeat([0, 1], [95, 5]), equal_weights(100))
    assert without_unknown_kinds.confidence_threshold > 0.8


def test_fit_unknown_threshold_is_reached_by_two_known_cells_of_a_hundred() -> None:
    unknown = np.concatenate([np.full(95, 0.01), [0.1, 0.2, 0.3, 0.35, 0.4]])
    logits = np.log(np.stack([1 - unknown, unknown / 2, unknown / 2], axis=1))
    threshold = fit_unknown_threshold(logits, equal_weights(100), 1.0, 2)
    assert threshold == pytest.approx(0.301, abs=1e-3)
    assert (unknown >= threshold).sum() == 2


def test_fit_unknown_threshold_weighs_laboratories_alike() -> None:
    unknown = np.array([0.01] * 90 + [0.35] * 10)
    logits = np.log(np.stack([1 - unknown, unknown], axis=1))
    weights = np.array([0.5 / 90] * 90 + [0.5 / 10] * 10)
    assert fit_unknown_threshold(logits, weights, 1.0, 1) == pytest.approx(0.351, abs=1e-3)


def test_fit_unknown_threshold_without_such_kinds_takes_the_lowest() -> None:
    assert fit_unknown_threshold(np.zeros((4, 3)), equal_weights(4), 1.0, 0) == 0.05

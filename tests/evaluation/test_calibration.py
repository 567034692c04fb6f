"""Temperature, reliability bins and calibration error against numbers worked by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from wbctool.evaluation.calibration import (
    calibration_error,
    fit_temperature,
    fit_unknown_threshold,
    reliability_bins,
)


def test_calibration_error_weights_bins_by_their_cells() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.55])
    right = np.array([True, True, True, False])
    # three quarters of the cells are 0.05 off, one quarter 0.55
    assert calibration_error(confidence, right) == pytest.approx(0.75 * 0.05 + 0.25 * 0.55)


def test_calibration_error_full_confidence_belongs_to_last_bin() -> None:
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0


def test_reliability_bins_leaves_out_empty_bins() -> None:
    bins = reliability_bins(np.array([0.05, 0.1, 0.95, 1.0]), np.array([False, True, True, True]), n_bins=10)
    assert bins.fraction.tolist() == [0.25, 0.25, 0.5]
    assert bins.confidence.tolist() == pytest.approx([0.05, 0.1, 0.975])
    assert bins.accuracy.tolist() == [0.0, 1.0, 1.0]


def test_reliability_bins_agree_with_scikit_learn() -> None:
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = np.random.default_rng(4)
    confidence = rng.random(500)
    correct = rng.random(500) < confidence
    bins = reliability_bins(confidence, correct, n_bins=10)
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(bins.accuracy, accuracy)
    np.testing.assert_allclose(bins.confidence, mean_confidence)


def test_fit_temperature_recovers_the_temperature_of_the_labels() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (20_000, 4))
    y_true = np.array([rng.choice(4, p=p) for p in softmax(logits / 1.7, axis=1)])
    assert fit_temperature(logits, y_true) == pytest.approx(1.7, rel=0.05)


def test_fit_temperature_weights_equal_repeated_rows() -> None:
    logits, y_true = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 0, 1])
    repeated = fit_temperature(logits[[0, 0, 1, 2]], y_true[[0, 0, 1, 2]])
    assert fit_temperature(logits, y_true, np.array([0.5, 0.25, 0.25])) == pytest.approx(repeated, rel=1e-4)


def test_fit_unknown_threshold_is_reached_by_two_known_cells_of_a_hundred() -> None:
    unknown = np.concatenate([np.full(95, 0.01), [0.1, 0.2, 0.3, 0.35, 0.4]])
    logits = np.log(np.stack([1 - unknown, unknown / 2, unknown / 2], axis=1))
    threshold = fit_unknown_threshold(logits, np.full(100, 0.01), 1.0, 2)
    assert threshold == pytest.approx(0.301, abs=1e-3)
    assert (unknown >= threshold).sum() == 2


def test_fit_unknown_threshold_weighs_laboratories_alike() -> None:
    unknown = np.array([0.01] * 90 + [0.35] * 10)
    logits = np.log(np.stack([1 - unknown, unknown], axis=1))
    weights = np.array([0.5 / 90] * 90 + [0.5 / 10] * 10)
    assert fit_unknown_threshold(logits, weights, 1.0, 1) == pytest.approx(0.351, abs=1e-3)


def test_fit_unknown_threshold_without_such_kinds_takes_the_lowest() -> None:
    assert fit_unknown_threshold(np.zeros((4, 3)), np.full(4, 0.25), 1.0, 0) == 0.05

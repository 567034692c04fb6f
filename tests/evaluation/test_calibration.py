"""Temperature, reliability bins and calibration error against numbers worked by hand."""

import numpy as np
import pytest
from scipy.special import softmax

from wbctool.evaluation.calibration import calibration_error, fit_temperature, reliability_bins


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

import numpy as np
import pytest
from scipy.special import log_softmax

from wbctool.adaptation.last_layer import Basis, ReducedCells, fit_correction
from wbctool.inference.classifier_head import LastLayer


def cells(features: list[list[float]]) -> ReducedCells:
    return ReducedCells(np.zeros((len(features), 2)), np.array(features))


def test_fit_correction_strong_pull_corrects_nothing() -> None:
    fitted = fit_correction(cells([[1, 0], [0, 1]]), np.array([1, 0]), np.ones(2), l2_penalty=1e6)
    assert np.allclose(fitted.weight, 0, atol=1e-4)
    assert np.allclose(fitted.bias, 0, atol=1e-4)


def test_fit_correction_weak_pull_learns_the_labels() -> None:
    taught = cells([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
    fitted = fit_correction(taught, np.array([0, 0, 1, 1]), np.ones(4), l2_penalty=1e-4)
    assert fitted.correct_logits(taught).argmax(axis=1).tolist() == [0, 0, 1, 1]


def test_fit_correction_weights_decide_between_equal_cells() -> None:
    fitted = fit_correction(cells([[1, 0], [1, 0]]), np.array([0, 1]), np.array([1.0, 3.0]), l2_penalty=1e-6)
    probability = np.exp(log_softmax(fitted.correct_logits(cells([[1, 0]])), axis=1))[0, 1]
    assert probability == pytest.approx(0.75, abs=0.01)


def test_basis_corrects_the_layer_as_the_logits() -> None:
    rng = np.random.default_rng(0)
    layer = LastLayer(rng.normal(size=(3, 200)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    features = rng.normal(size=(60, 200)).astype(np.float32)
    basis = Basis.fit(layer, features)
    reduced = basis.reduce(features)
    assert reduced.features.shape == (60, 128)
    correction = fit_correction(reduced, rng.integers(0, 3, 60), np.ones(60), l2_penalty=1e-3)
    corrected = basis.correct(correction).compute_logits(features)
    assert np.allclose(corrected, correction.correct_logits(reduced), atol=1e-3)
    assert np.abs(corrected - layer.compute_logits(features)).max() > 0.1


def test_basis_does_not_depend_on_the_features_unit() -> None:
    rng = np.random.default_rng(1)
    features, y_true = rng.normal(size=(40, 5)).astype(np.float32), rng.integers(0, 2, 40)
    layer = LastLayer(np.zeros((2, 5), np.float32), np.zeros(2, np.float32))
    logits = []
    for unit in (1, 1000):
        reduced = Basis.fit(layer, unit * features).reduce(unit * features)
        logits.append(fit_correction(reduced, y_true, np.ones(40), l2_penalty=0.01).correct_logits(reduced))
    assert np.allclose(*logits, atol=1e-2)

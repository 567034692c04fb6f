"""Temperature and thresholds on made-up logits whose truth is known."""

import numpy as np
import pytest
from scipy.special import softmax

from training.calibrate import calibrate


def test_the_temperature_that_made_the_logits_is_found() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 2, (20_000, 4))
    wanted = np.array([rng.choice(4, p=p) for p in softmax(honest, axis=1)])
    assert calibrate((honest * 2.5).astype(np.float32), wanted).temperature == pytest.approx(2.5, rel=0.05)


def test_the_confidence_threshold_leaves_97_percent_right() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 5, (20_000, 3))
    probabilities = softmax(logits, axis=1)
    wanted = np.array([rng.choice(3, p=p) for p in probabilities])
    fitted = calibrate(logits.astype(np.float32), wanted)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == wanted
    assert right[confidence >= fitted.confidence_threshold].mean() >= 0.96
    assert right[confidence >= fitted.confidence_threshold - 0.03].mean() < 0.97


def test_a_hundredth_of_the_known_cells_fails_the_energy_gate() -> None:
    logits = np.random.default_rng(2).normal(0, 3, (5000, 8))
    wanted = logits.argmax(axis=1)
    energies = -np.log(np.exp(logits).sum(axis=1))
    gate = calibrate(logits.astype(np.float32), wanted).energy_threshold
    assert (energies > gate).mean() == pytest.approx(0.01, abs=0.002)

"""The rule for unfamiliar slides that a training writes into the cards."""

from dataclasses import dataclass

import numpy as np
import pytest
from wbctool_training.familiarity import fit_familiarity, fit_feature_space
from wbctool_training.recipe import FamiliarityRecipe

from wbctool.stages.familiarity import squared_distances

CONFIG = FamiliarityRecipe(min_cells=20, false_alarm_share=0.05, min_confidence=0.9)


@dataclass(frozen=True)
class Cell:
    group: str
    dataset: str


def _sample(rng: np.random.Generator, n: int, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of n cells of two classes, correlated within a class, and the classes."""
    y_true = np.arange(n) % 2
    mixing = np.array([[2, 1, 0], [0, 1, 0], [0, 0, 1]])
    features = rng.normal(0, spread, (n, 3)) @ mixing + np.array([[0, 0, 0], [20, 0, 0]])[y_true]
    return features.astype(np.float32), y_true


def test_fit_feature_space_covariance_within_classes_becomes_the_identity() -> None:
    features, y_true = _sample(np.random.default_rng(0), 4000)
    space = fit_feature_space(features, y_true)
    whitening, centers = space.arrays
    deviations = features @ whitening - centers[y_true]
    assert np.cov(deviations.T) == pytest.approx(np.eye(3), abs=0.15)  # shrinkage keeps it from being exact
    assert squared_distances(features, space).mean() == pytest.approx(3, abs=0.4)


def test_fit_feature_space_one_cell_of_each_class_is_finite() -> None:
    space = fit_feature_space(np.eye(2, 8, dtype=np.float32), np.array([0, 1]))
    assert np.isfinite(squared_distances(np.ones((1, 8), np.float32), space)).all()


def test_fit_familiarity_limit_is_exceeded_by_the_share_of_familiar_slides() -> None:
    rng = np.random.default_rng(1)
    features, y_true = _sample(rng, 3000)
    held_out, _ = _sample(rng, 3000)
    cells = [Cell(str(n), "a") for n in range(3000)]
    rule = fit_familiarity(features, y_true, held_out, cells, CONFIG)
    distances = squared_distances(held_out, rule.space)
    slides = np.random.default_rng(2).choice(distances, (2000, CONFIG.min_cells)).mean(axis=1)
    assert (slides > rule.max_mean_distance).mean() == pytest.approx(CONFIG.false_alarm_share, abs=0.025)
    assert (rule.min_cells, rule.min_confidence) == (20, 0.9)


def test_fit_familiarity_laboratory_that_varies_most_sets_the_limit() -> None:
    rng = np.random.default_rng(1)
    features, y_true = _sample(rng, 2000)
    near, far = _sample(rng, 500)[0], _sample(rng, 50, spread=2.0)[0]
    cells = [Cell(f"n{n}", "near") for n in range(500)] + [Cell(f"f{n}", "far") for n in range(50)]
    both = fit_familiarity(features, y_true, np.concatenate([near, far]), cells, CONFIG)
    alone = fit_familiarity(features, y_true, far, cells[500:], CONFIG)
    only_near = fit_familiarity(features, y_true, near, cells[:500], CONFIG)
    assert both.max_mean_distance == pytest.approx(alone.max_mean_distance, rel=0.15)
    assert both.max_mean_distance > 1.5 * only_near.max_mean_distance

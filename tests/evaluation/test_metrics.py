"""Figures of merit against numbers worked by hand."""

import tracemalloc

import numpy as np
import pytest

from wbctool.evaluation.metrics import (
    McNemarResult,
    accuracy_by_group,
    cluster_bootstrap_interval,
    match_boxes,
    mcnemar_by_group,
    score_detections,
)
from wbctool.types.cells import Box


def test_iou_equals_value_by_hand() -> None:
    assert Box(0, 0, 10, 10).iou(Box(5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert Box(0, 0, 10, 10).iou(Box(10, 0, 10, 10)) == 0.0


def test_intersection_is_what_two_boxes_share():
    assert Box(0, 0, 10, 10).intersection(Box(5, -2, 10, 6)) == Box(5, 0, 5, 4)
    assert Box(0, 0, 10, 10).intersection(Box(0, 10, 10, 10)) is None


def test_match_boxes_matches_each_annotated_box_once() -> None:
    annotated = [Box(0, 0, 10, 10)]
    twice = [Box(0, 0, 10, 10), Box(1, 0, 10, 10)]
    assert match_boxes(annotated, twice) == [(Box(0, 0, 10, 10), Box(0, 0, 10, 10))]


def test_match_boxes_needs_iou_of_one_half() -> None:
    assert len(match_boxes([Box(0, 0, 10, 10)], [Box(0, 0, 10, 5)])) == 1
    assert match_boxes([Box(0, 0, 10, 10)], [Box(0, 0, 10, 4)]) == []


def test_score_detections_counts_over_all_fields() -> None:
    box, far = Box(0, 0, 10, 10), Box(50, 50, 10, 10)
    score = score_detections([([box, far], [box]), ([], [far]), ([box], [box])])
    assert (score.n_true, score.n_pred, score.tp) == (3, 3, 2)
    assert score.precision == score.recall == score.f1 == pytest.approx(2 / 3)
    assert score.mean_iou == 1.0


def test_score_detections_without_boxes_is_zero() -> None:
    score = score_detections([([], [])])
    assert (score.precision, score.recall, score.f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("at_once", [1, 300, 700, 10**9])
def test_cluster_bootstrap_interval_does_not_depend_on_max_draws(at_once: int) -> None:
    rng = np.random.default_rng(1)
    correct, groups = rng.random(400) < 0.8, [str(n) for n in rng.integers(101, size=400)]
    usual = cluster_bootstrap_interval(correct, groups, seed=3)
    assert cluster_bootstrap_interval(correct, groups, seed=3, max_draws=at_once) == usual


def test_cluster_bootstrap_interval_of_many_groups_takes_little_memory() -> None:
    correct = np.random.default_rng(1).random(17_000) < 0.9
    tracemalloc.start()
    try:
        low, high = cluster_bootstrap_interval(correct, [str(n) for n in range(17_000)], n_resamples=300)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.89 < low < float(correct.mean()) < high < 0.91
    assert most < 60e6  # all at once it is 80 MB, and more than half a GB for 2,000 draws


def test_accuracy_by_group_is_by_majority() -> None:
    correct = np.array([True, True, False, False, True, False])
    assert accuracy_by_group(correct, ["a", "a", "a", "b", "c", "c"]) == (pytest.approx(1 / 3), 3)


def test_cluster_bootstrap_interval_draws_groups_not_images() -> None:
    """A hundred copies of two originals, one right and one wrong, tell no more than two images."""
    correct = np.array([True] * 50 + [False] * 50)
    assert cluster_bootstrap_interval(correct, ["a"] * 50 + ["b"] * 50) == (0.0, 1.0)
    low, high = cluster_bootstrap_interval(correct, [str(n) for n in range(100)])
    assert (low, high) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.6, abs=0.02))


def test_mcnemar_by_group_counts_groups_not_copies() -> None:
    one = np.array([True, True, True, False, True, True, True, True, True, False])
    other = np.array([False, False, False, True, False, False, False, False, True, False])
    groups = ["a", "a", "b", "b", "c", "d", "e", "f", "g", "h"]
    # a, c, d, e, f speak for the one; b is even, g and h are the same both ways: 5 to 0 has p = 2 / 32
    assert mcnemar_by_group(one, other, groups) == McNemarResult(5, 0, pytest.approx(0.0625))
    assert mcnemar_by_group(one, one, groups).p == 1.0


def test_cluster_bootstrap_interval_is_no_narrower_than_exact_interval_of_groups() -> None:
    """58 of 60 originals right: the bootstrap ends at 0.92, and covers the truth in 85 of 100 cases."""
    correct = np.arange(60) >= 2
    low, high = cluster_bootstrap_interval(correct, [str(n) for n in range(60)])
    assert (round(low, 3), high) == (0.885, pytest.approx(1.0, abs=0.004))
    copies = cluster_bootstrap_interval(np.repeat(correct, 10), [str(n) for n in range(60) for _ in range(10)])
    assert copies == (low, high)
    assert cluster_bootstrap_interval(np.zeros(20, bool), [str(n) for n in range(20)]) == (
        0.0,
        pytest.approx(0.168, abs=0.001),
    )

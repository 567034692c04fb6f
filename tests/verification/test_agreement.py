"""Figures of agreement against values worked by hand, scikit-learn's, and published ones."""

import pytest

from wbctool.verification.agreement import BlandAltman, cohen_kappa, fisher_agrees

pytest.importorskip("sklearn")


def own(number: int) -> list[str]:
    return [str(i) for i in range(number)]


def test_cohen_kappa_equals_textbook_value() -> None:
    """Two readers, 50 cells: 20 both yes, 5 and 10 apart, 15 both no. Agreement 0.7, by chance 0.5: kappa 0.4."""
    y_true = ["yes"] * 25 + ["no"] * 25
    y_pred = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    kappa = cohen_kappa(y_true, y_pred, own(50))
    assert kappa is not None
    assert kappa.value == pytest.approx(0.4)
    assert 0.1 < kappa.low < 0.2  # standard error 0.126 by Fleiss, Cohen and Everitt (1969)
    assert 0.6 < kappa.high < 0.7


def test_cohen_kappa_of_one_class_is_none() -> None:
    assert cohen_kappa(["a"] * 5, ["a"] * 5, own(5)) is None


def test_cohen_kappa_interval_stays_in_range() -> None:
    """One class is nearly all: what is left beyond chance is so little that its bounds would reach to -4."""
    kappa = cohen_kappa(["a"] * 40 + ["b"], ["a"] * 41, own(41))
    assert kappa is not None
    assert (kappa.value, kappa.high) == (0.0, pytest.approx(1.0, abs=0.001))
    assert -40 <= kappa.low <= 0  # -by chance / (1 - by chance)


def test_cohen_kappa_of_perfect_agreement_is_one() -> None:
    kappa = cohen_kappa(["a", "b"] * 20, ["a", "b"] * 20, own(40))
    assert kappa is not None
    # 40 of 40 are at least 91.2 % by Clopper and Pearson, half of which is chance
    assert (kappa.value, round(kappa.low, 2), kappa.high) == (1.0, 0.82, 1.0)


def test_bland_altman_equals_values_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, sd 1, limits 2 ± 1.96; t(2) = 4.303 over the root of 3."""
    found = BlandAltman.from_percents("neutrophil", [11, 22, 33], [10, 20, 30])
    assert found is not None
    assert (found.bias, found.low, found.high) == pytest.approx((2.0, 0.04, 3.96))
    assert found.bias_high - found.bias == pytest.approx(4.3027 / 3**0.5, abs=1e-3)
    assert found.means == (10.5, 21.0, 31.5)
    assert BlandAltman.from_percents("neutrophil", [1], [1]) is None


def test_fisher_agrees_with_ruemkes_table() -> None:
    assert fisher_agrees(60, 100, 50, 100)
    assert not fisher_agrees(60, 100, 40, 100)
    assert fisher_agrees(0, 100, 3, 100)

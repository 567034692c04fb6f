"""The refit of a temperature on drawn labels."""

import numpy as np
import pytest
from scipy.special import softmax

from wbctool.verification.temperature_refit import refit_temperature, split_groups_in_half


def own(number: int) -> list[str]:
    return [str(i) for i in range(number)]


def test_split_groups_in_half_divides_no_group_and_ignores_order() -> None:
    groups = [str(i // 3) for i in range(300)]
    half = split_groups_in_half(groups)
    first = {s for s, chosen in zip(groups, half, strict=True) if chosen}
    assert len(first) == 50
    assert not first & {s for s, chosen in zip(groups, half, strict=True) if not chosen}
    assert first != set(own(50))
    assert (split_groups_in_half(groups[::-1])[::-1] == half).all()


@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_refit_temperature_corrects_a_wrong_temperature(factor: float) -> None:
    """Labels drawn from softmax(logits): the temperature that fits is 1, whatever scaled them before."""
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2.5, (6000, 5))
    true = softmax(logits, axis=1)
    y_true = (true.cumsum(axis=1) > rng.random((6000, 1))).argmax(axis=1)
    found = refit_temperature(softmax(logits / factor, axis=1), y_true, own(6000))
    assert found is not None
    assert found.temperature == pytest.approx(1 / factor, rel=0.06)
    assert found.error_refitted < 0.03
    assert (found.error > 0.05) == (factor != 1.0)
    assert (found.fitted_on, found.measured_on) == (3000, 3000)


def test_refit_temperature_measures_on_other_groups_than_fitted() -> None:
    """Cells of the second half do not move the temperature."""
    rng = np.random.default_rng(1)
    probabilities = softmax(rng.normal(0, 2, (200, 3)), axis=1)
    y_true, groups = probabilities.argmax(axis=1), own(200)
    other = np.where(split_groups_in_half(groups), y_true, (y_true + 1) % 3)
    first, second = (refit_temperature(probabilities, labels, groups) for labels in (y_true, other))
    assert first is not None
    assert second is not None
    assert first.temperature == second.temperature
    assert (all(first.correct), any(second.correct)) == (True, False)


def test_refit_temperature_of_one_group_is_none() -> None:
    assert refit_temperature(np.full((4, 2), 0.5), np.zeros(4, dtype=int), ["a"] * 4) is None

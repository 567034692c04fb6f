"""Proportions against published intervals."""

import numpy as np

from wbctool.evaluation.proportion import Proportion


def own(number: int) -> list[str]:
    return [str(i) for i in range(number)]


def test_proportion_has_the_exact_interval() -> None:
    share = Proportion.estimate(np.arange(200) < 0, own(200))
    assert share is not None
    assert (share.n, share.percent, share.low, round(share.high, 2)) == (0, 0.0, 0.0, 1.83)  # DOMAIN: 0 of 200


def test_proportion_copies_of_one_group_widen_the_interval() -> None:
    hits = np.repeat([True, True, True, True, False], 40)
    alone, copies = Proportion.estimate(hits, own(200)), Proportion.estimate(hits, [str(i // 40) for i in range(200)])
    assert alone is not None
    assert copies is not None
    assert (alone.exact_low, alone.exact_high) == (copies.exact_low, copies.exact_high)
    assert copies.low < alone.low < alone.high < copies.high


def test_proportion_without_cells_is_none() -> None:
    assert Proportion.estimate(np.array([], dtype=bool), []) is None

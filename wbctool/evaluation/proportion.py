"""A proportion of cells with intervals that respect groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.evaluation.metrics import cluster_bootstrap_interval
from wbctool.stages.differential import clopper_pearson_interval


@dataclass(frozen=True, slots=True)
class Proportion:
    """A proportion with 95 % intervals.

    The exact interval covers what another sample of independent cells would give. Cells of one group are not
    independent, so the wider interval also covers what another sample of groups would give.

    Attributes:
        n: Number of successes.
        total: Number of trials.
        percent: The proportion, in percent.
        exact_low: Lower bound of the exact interval, in percent.
        exact_high: Upper bound of the exact interval, in percent.
        low: The exact bound, or that of a cluster bootstrap over groups if it is lower, in percent.
        high: The exact bound, or that of a cluster bootstrap over groups if it is higher, in percent.

    References:
        Clopper and Pearson 1934, Biometrika 26:404.
    """

    n: int
    total: int
    percent: float
    exact_low: float
    exact_high: float
    low: float
    high: float

    @classmethod
    def estimate(cls, successes: NDArray[np.bool_], groups: Sequence[str]) -> Proportion | None:
        """Estimate a proportion from trials.

        Args:
            successes: (N,) bool, the result of each trial.
            groups: The group of each trial.

        Returns:
            The proportion; None if there are no trials.

        >>> proportion = Proportion.estimate(np.arange(100) < 9, [str(i) for i in range(100)])
        >>> round(proportion.exact_low, 1), round(proportion.exact_high, 1), proportion.low == proportion.exact_low
        (4.2, 16.4, True)
        """
        n, total = int(successes.sum()), len(successes)
        if not total:
            return None
        low, high = exact_low, exact_high = clopper_pearson_interval(n, total)
        if len(set(groups)) < total:
            group_interval = cluster_bootstrap_interval(successes, groups)
            low, high = min(low, 100 * group_interval[0]), max(high, 100 * group_interval[1])
        return cls(n, total, 100 * n / total, exact_low, exact_high, low, high)


def estimate_proportion(successes: NDArray[np.bool_], groups: Sequence[str]) -> Proportion:
    """Estimate a proportion as :meth:`Proportion.estimate` does, from at least one trial."""
    proportion = Proportion.estimate(successes, groups)
    assert proportion is not None
    return proportion

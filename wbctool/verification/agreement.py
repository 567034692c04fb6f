"""Statistics of agreement between two readers, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, t

from wbctool.evaluation.metrics import cluster_bootstrap_interval

_N_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa with a 95 % interval.

    The interval covers what another sample of groups would give (cluster bootstrap). If it is wider, the interval is
    taken that follows from the interval of the agreement at a fixed agreement by chance: for perfect agreement, the
    bootstrap alone gives 1 to 1.

    Attributes:
        value: Kappa, at most 1.
        low: Lower bound.
        high: Upper bound.

    References:
        Cohen 1960, Educ Psychol Meas 20:37.
    """

    value: float
    low: float
    high: float


def cohen_kappa(y_true: Sequence[str], y_pred: Sequence[str], groups: Sequence[str]) -> Kappa | None:
    """Compute Cohen's kappa, the agreement of two readers beyond chance.

    Args:
        y_true: The first reader's class of each cell.
        y_pred: The second reader's class of each cell.
        groups: The group of each cell.

    Returns:
        Kappa with its interval; None if both readers use only one class, as kappa is undefined then.
    """
    from sklearn.metrics import cohen_kappa_score

    if len({*y_true, *y_pred}) < 2:
        return None
    labels, label_indices = np.unique(np.asarray([*y_true, *y_pred]), return_inverse=True)
    group_names, group_indices = np.unique(np.asarray(groups), return_inverse=True)
    group_confusions = np.zeros((len(group_names), len(labels), len(labels)))
    np.add.at(group_confusions, (group_indices, label_indices[: len(y_true)], label_indices[len(y_true) :]), 1)
    resample_counts = np.random.default_rng(0).multinomial(
        len(group_names), np.full(len(group_names), 1 / len(group_names)), size=_N_RESAMPLES
    )
    low, high = np.quantile(_kappa_from_confusions(np.tensordot(resample_counts, group_confusions, 1)), [0.025, 0.975])
    agreements = np.array([true == predicted for true, predicted in zip(y_true, y_pred, strict=True)])
    value, chance = float(cohen_kappa_score(y_true, y_pred)), float(_chance_agreement(group_confusions.sum(axis=0)))
    implied_bounds = [(bound - chance) / (1 - chance) for bound in cluster_bootstrap_interval(agreements, groups)]
    min_kappa = -chance / (1 - chance)  # of no agreement at all
    return Kappa(value, max(min_kappa, min(float(low), implied_bounds[0])), max(float(high), implied_bounds[1]))


def _kappa_from_confusions(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute kappa of (N, K, K) confusion matrices as (N,); 1 if all cells have one class for both readers."""
    observed = np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))
    chance = _chance_agreement(confusions)
    beyond = 1 - chance
    return np.where(beyond > 0, (observed - chance) / np.where(beyond > 0, beyond, 1), 1.0)


def _chance_agreement(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute, for (..., K, K) confusion matrices, how often readers with these class frequencies agree by chance."""
    marginal_products = confusions.sum(axis=-2) * confusions.sum(axis=-1)
    chance: NDArray[np.float64] = marginal_products.sum(axis=-1) / confusions.sum(axis=(-2, -1)) ** 2
    return chance


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """The mean difference of two readers' percents of one class, without sign.

    Attributes:
        slides: Number of slides.
        percent: The mean difference, in percentage points.
        low: Lower bound of its 95 % interval, in percentage points.
        high: Upper bound of its 95 % interval, in percentage points.
    """

    slides: int
    percent: float
    low: float
    high: float

    @classmethod
    def from_bland_altman(cls, comparison: BlandAltman) -> MeanDifference:
        """Take the mean difference from a Bland–Altman comparison.

        >>> comparison = BlandAltman.from_percents("eosinophil", [1.0, 1.0, 1.0], [5.0, 6.0, 4.0])
        >>> MeanDifference.from_bland_altman(comparison).percent
        4.0
        """
        magnitude, half_width = abs(comparison.bias), (comparison.bias_high - comparison.bias_low) / 2
        return cls(comparison.slides, magnitude, max(0.0, magnitude - half_width), magnitude + half_width)


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """A Bland–Altman comparison of tool and reader over slides: tool minus reader, in percentage points.

    Attributes:
        label: The class.
        slides: Number of slides.
        bias: Mean difference.
        bias_low: Lower bound of the bias's 95 % interval (Student's t), which covers the mean of many more slides.
        bias_high: Upper bound of that interval.
        low: Lower 95 % limit of agreement, bias - 1.96 standard deviations; most single slides lie within the limits.
        high: Upper 95 % limit of agreement, bias + 1.96 standard deviations.
        means: Mean of tool and reader on each slide, in percent.
        differences: Tool minus reader on each slide.

    References:
        Bland and Altman 1986, Lancet 327:307.
    """

    label: str
    slides: int
    bias: float
    bias_low: float
    bias_high: float
    low: float
    high: float
    means: tuple[float, ...]
    differences: tuple[float, ...]

    @property
    def mean_percent(self) -> float:
        """Mean of tool and reader over all slides, in percent."""
        return float(np.mean(self.means))

    @classmethod
    def from_percents(cls, label: str, tool: Sequence[float], reader: Sequence[float]) -> BlandAltman | None:
        """Compare the percents of one class.

        Args:
            label: The class.
            tool: The tool's percent on each slide.
            reader: The reader's percent on each slide, in the same order.

        Returns:
            The comparison; None for fewer than two slides.
        """
        if len(tool) < 2:
            return None
        a, b = np.asarray(tool, dtype=float), np.asarray(reader, dtype=float)
        differences = a - b
        bias, sd = float(differences.mean()), float(differences.std(ddof=1))
        half_width = float(t.ppf(0.975, len(a) - 1)) * sd / len(a) ** 0.5
        return cls(
            label=label,
            slides=len(a),
            bias=bias,
            bias_low=bias - half_width,
            bias_high=bias + half_width,
            low=bias - 1.96 * sd,
            high=bias + 1.96 * sd,
            means=tuple(((a + b) / 2).tolist()),
            differences=tuple(differences.tolist()),
        )


def fisher_agrees(n: int, total: int, other_n: int, other_total: int) -> bool:
    """Return whether two counts of one smear differ by no more than sampling explains (Fisher's exact test, 5 %).

    Args:
        n: Cells of the class in the first count.
        total: All cells of the first count.
        other_n: Cells of the class in the second count.
        other_total: All cells of the second count.

    References:
        Fisher 1922, J R Stat Soc 85:87.

    >>> fisher_agrees(60, 100, 55, 100), fisher_agrees(60, 100, 30, 100)
    (True, False)
    """
    table = np.array([[n, total - n], [other_n, other_total - other_n]])
    return bool(fisher_exact(table).pvalue >= 0.05)

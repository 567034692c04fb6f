"""How far two readers agree, pure: arrays in, named results out. The textbook ones are scikit-learn's and SciPy's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import fisher_exact, t

from wbctool.evaluation.metrics import calibration_error, cluster_bootstrap_interval
from wbctool.stages.differential import clopper_pearson_interval

_N_RESAMPLES = 1000
MIN_CALIBRATION_CELLS = 30  # ours: to fit a temperature to, and to measure a calibration error on
_MIN_PROBABILITY = 1e-12  # probabilities that underflow to 0 have a logarithm too


@dataclass(frozen=True, slots=True)
class Proportion:
    """n of total, in percent, with a 95 % interval.

    exact: Clopper and Pearson's, which takes all cells for independent. low, high: that one, widened to the one by
    source (cluster bootstrap) where several cells have one source.
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
        """The share of True; None where there is nothing to share.

        >>> share = Share.of(np.arange(100) < 9, [str(i) for i in range(100)])
        >>> round(share.exact_low, 1), round(share.exact_high, 1), share.low == share.exact_low
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


@dataclass(frozen=True, slots=True)
class Kappa:
    """Cohen's kappa (1960), with a 95 % interval by drawing whole sources with replacement.

    Widened, where that is narrower, to what the agreement's interval makes of it at the agreement by chance: of perfect
    agreement the draws give 1 to 1.
    """

    value: float
    low: float
    high: float


def cohen_kappa(y_true: Sequence[str], y_pred: Sequence[str], groups: Sequence[str], seed: int = 0) -> Kappa | None:
    """Agreement beyond chance; None where both name one class alone, of which chance leaves nothing to tell."""
    from sklearn.metrics import cohen_kappa_score

    if len({*y_true, *y_pred}) < 2:
        return None
    labels, label_indices = np.unique(np.asarray([*y_true, *y_pred]), return_inverse=True)
    group_names, group_indices = np.unique(np.asarray(groups), return_inverse=True)
    group_confusions = np.zeros((len(group_names), len(labels), len(labels)))
    np.add.at(group_confusions, (group_indices, label_indices[: len(y_true)], label_indices[len(y_true) :]), 1)
    resample_counts = np.random.default_rng(seed).multinomial(
        len(group_names), np.full(len(group_names), 1 / len(group_names)), size=_N_RESAMPLES
    )
    low, high = np.quantile(_kappa_from_confusions(np.tensordot(resample_counts, group_confusions, 1)), [0.025, 0.975])
    agreements = np.array([w == g for w, g in zip(y_true, y_pred, strict=True)])
    value, chance = float(cohen_kappa_score(y_true, y_pred)), float(_chance_agreement(group_confusions.sum(axis=0)))
    implied_bounds = [(share - chance) / (1 - chance) for share in cluster_bootstrap_interval(agreements, groups)]
    min_kappa = -chance / (1 - chance)  # where no cell is named as the reader named it
    return Kappa(value, max(min_kappa, min(float(low), implied_bounds[0])), max(float(high), implied_bounds[1]))


def _kappa_from_confusions(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """confusions: (N, K, K) -> (N,); 1 where all cells are of one class for both readers."""
    observed = np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))
    chance = _chance_agreement(confusions)
    beyond = 1 - chance
    return np.where(beyond > 0, (observed - chance) / np.where(beyond > 0, beyond, 1), 1.0)


def _chance_agreement(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """confusions: (..., K, K) -> (...): how often two readers agree who name as often, but at random."""
    marginal_products = confusions.sum(axis=-2) * confusions.sum(axis=-1)
    chance: NDArray[np.float64] = marginal_products.sum(axis=-1) / confusions.sum(axis=(-2, -1)) ** 2
    return chance


@dataclass(frozen=True, slots=True)
class TemperatureRefit:
    """The shipped temperature and one fitted to other cells of this laboratory, both measured on the rest.

    fitted_on, measured_on: cells; no source is in both. error: expected calibration error (Guo 2017, arXiv 1706.04599).
    confidences, correct: of the measured cells, with the shipped temperature and the refitted one.
    """

    fitted_on: int
    measured_on: int
    temperature: float
    temperature_refitted: float
    error: float
    error_refitted: float
    confidences: tuple[float, ...]
    confidences_refitted: tuple[float, ...]
    correct: tuple[bool, ...]


def refit_temperature(
    probabilities: NDArray[np.float64], y_true: NDArray[np.int64], groups: Sequence[str], temperature: float
) -> TemperatureRefit | None:
    """probabilities: (N, classes) at ``temperature``; y_true: (N,) indices. None where a half has too few cells to say.

    Logits are needed only up to a constant, so the logarithms of the probabilities, times the temperature, serve.
    """
    is_fitted = split_groups_in_half(groups)
    if min(is_fitted.sum(), (~is_fitted).sum()) < MIN_CALIBRATION_CELLS:
        return None
    log_probabilities = np.log(np.maximum(probabilities, _MIN_PROBABILITY))
    rows = np.arange(int(is_fitted.sum()))

    def loss(log_factor: float) -> float:
        return float(
            -log_softmax(log_probabilities[is_fitted] / np.exp(log_factor), axis=1)[rows, y_true[is_fitted]].mean()
        )

    factor = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
    before = probabilities[~is_fitted].max(axis=1)
    after = softmax(log_probabilities[~is_fitted] / factor, axis=1).max(axis=1)
    correct = probabilities[~is_fitted].argmax(axis=1) == y_true[~is_fitted]
    return TemperatureRefit(
        fitted_on=int(is_fitted.sum()),
        measured_on=len(correct),
        temperature=temperature,
        temperature_refitted=temperature * factor,
        error=calibration_error(before, correct),
        error_refitted=calibration_error(after, correct),
        confidences=tuple(before.tolist()),
        confidences_refitted=tuple(after.tolist()),
        correct=tuple(correct.tolist()),
    )


def split_groups_in_half(groups: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each cell is of every second source, in an order that has nothing to do with their names."""
    order = sorted(set(groups), key=lambda source: hashlib.sha256(source.encode(errors="surrogateescape")).digest())
    chosen = set(order[::2])
    return np.array([source in chosen for source in groups], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """How far two readers' percents of a class lie apart on average, without sign; low, high: its 95 % interval."""

    slides: int
    percent: float
    low: float
    high: float

    @classmethod
    def from_bland_altman(cls, comparison: BlandAltman) -> MeanDifference:
        """The mean difference of a comparison.

        >>> bias = BlandAltman.of("eosinophil", [1.0, 1.0, 1.0], [5.0, 6.0, 4.0])
        >>> Difference.of(bias).percent
        4.0
        """
        magnitude, half_width = abs(comparison.bias), (comparison.bias_high - comparison.bias_low) / 2
        return cls(comparison.slides, magnitude, max(0.0, magnitude - half_width), magnitude + half_width)


@dataclass(frozen=True, slots=True)
class BlandAltman:
    """Tool minus reader, in percentage points over slides (Bland and Altman 1986).

    bias: the mean difference, with its 95 % interval; low, high: the 95 % limits of agreement, bias ± 1.96 sd.
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
        """Of tool and reader over all slides."""
        return float(np.mean(self.means))

    @classmethod
    def from_percents(cls, label: str, tool: Sequence[float], reader: Sequence[float]) -> BlandAltman | None:
        """None for fewer than two slides."""
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
    """Whether two counts of one smear differ by no more than sampling explains: Fisher's exact test at 5 %.

    >>> fisher_agrees(60, 100, 55, 100), fisher_agrees(60, 100, 30, 100)
    (True, False)
    """
    table = np.array([[n, total - n], [other_n, other_total - other_n]])
    return bool(fisher_exact(table).pvalue >= 0.05)

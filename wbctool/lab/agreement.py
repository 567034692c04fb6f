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

from wbctool.lab.metrics import calibration_error, cluster_interval
from wbctool.stages.differential import exact_interval

_DRAWS = 1000
LEAST_CELLS = 30  # ours: to fit a temperature to, and to measure a calibration error on
_SMALLEST = 1e-12  # probabilities that underflow to 0 have a logarithm too


@dataclass(frozen=True, slots=True)
class Share:
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
    def of(cls, hits: NDArray[np.bool_], sources: Sequence[str]) -> Share | None:
        """The share of True; None where there is nothing to share.

        >>> share = Share.of(np.arange(100) < 9, [str(i) for i in range(100)])
        >>> round(share.exact_low, 1), round(share.exact_high, 1), share.low == share.exact_low
        (4.2, 16.4, True)
        """
        n, total = int(hits.sum()), len(hits)
        if not total:
            return None
        low, high = exact_low, exact_high = exact_interval(n, total)
        if len(set(sources)) < total:
            by_source = cluster_interval(hits, sources)
            low, high = min(low, 100 * by_source[0]), max(high, 100 * by_source[1])
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


def cohen_kappa(wanted: Sequence[str], got: Sequence[str], sources: Sequence[str], seed: int = 0) -> Kappa | None:
    """Agreement beyond chance; None where both name one class alone, of which chance leaves nothing to tell."""
    from sklearn.metrics import cohen_kappa_score

    if len({*wanted, *got}) < 2:
        return None
    kinds, kind = np.unique(np.asarray([*wanted, *got]), return_inverse=True)
    names, source = np.unique(np.asarray(sources), return_inverse=True)
    of_sources = np.zeros((len(names), len(kinds), len(kinds)))
    np.add.at(of_sources, (source, kind[: len(wanted)], kind[len(wanted) :]), 1)
    times = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)
    low, high = np.quantile(_kappas(np.tensordot(times, of_sources, 1)), [0.025, 0.975])
    agreed = np.array([w == g for w, g in zip(wanted, got, strict=True)])
    value, by_chance = float(cohen_kappa_score(wanted, got)), float(_by_chance(of_sources.sum(axis=0)))
    widest = [(share - by_chance) / (1 - by_chance) for share in cluster_interval(agreed, sources)]
    least = -by_chance / (1 - by_chance)  # where no cell is named as the reader named it
    return Kappa(value, max(least, min(float(low), widest[0])), max(float(high), widest[1]))


def _kappas(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """confusions: (N, K, K) -> (N,); 1 where all cells are of one class for both readers."""
    agreed = np.trace(confusions, axis1=1, axis2=2) / confusions.sum(axis=(1, 2))
    by_chance = _by_chance(confusions)
    beyond = 1 - by_chance
    return np.where(beyond > 0, (agreed - by_chance) / np.where(beyond > 0, beyond, 1), 1.0)


def _by_chance(confusions: NDArray[np.float64]) -> NDArray[np.float64]:
    """confusions: (..., K, K) -> (...): how often two readers agree who name as often, but at random."""
    named = confusions.sum(axis=-2) * confusions.sum(axis=-1)
    chance: NDArray[np.float64] = named.sum(axis=-1) / confusions.sum(axis=(-2, -1)) ** 2
    return chance


@dataclass(frozen=True, slots=True)
class Calibration:
    """The shipped temperature and one fitted to other cells of this laboratory, both measured on the rest.

    fitted_on, measured_on: cells; no source is in both. error: expected calibration error (Guo 2017, arXiv 1706.04599).
    confidences, right: of the measured cells, with the shipped temperature and the refitted one.
    """

    fitted_on: int
    measured_on: int
    temperature: float
    temperature_refitted: float
    error: float
    error_refitted: float
    confidences: tuple[float, ...]
    confidences_refitted: tuple[float, ...]
    right: tuple[bool, ...]


def recalibrate(
    probabilities: NDArray[np.float64], wanted: NDArray[np.int64], sources: Sequence[str], temperature: float
) -> Calibration | None:
    """probabilities: (N, classes) at ``temperature``; wanted: (N,) indices. None where a half has too few cells to say.

    Logits are needed only up to a constant, so the logarithms of the probabilities, times the temperature, serve.
    """
    fitted = first_half(sources)
    if min(fitted.sum(), (~fitted).sum()) < LEAST_CELLS:
        return None
    logarithms = np.log(np.maximum(probabilities, _SMALLEST))
    rows = np.arange(int(fitted.sum()))

    def loss(log_factor: float) -> float:
        return float(-log_softmax(logarithms[fitted] / np.exp(log_factor), axis=1)[rows, wanted[fitted]].mean())

    factor = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))
    before = probabilities[~fitted].max(axis=1)
    after = softmax(logarithms[~fitted] / factor, axis=1).max(axis=1)
    right = probabilities[~fitted].argmax(axis=1) == wanted[~fitted]
    return Calibration(
        fitted_on=int(fitted.sum()),
        measured_on=len(right),
        temperature=temperature,
        temperature_refitted=temperature * factor,
        error=calibration_error(before, right),
        error_refitted=calibration_error(after, right),
        confidences=tuple(before.tolist()),
        confidences_refitted=tuple(after.tolist()),
        right=tuple(right.tolist()),
    )


def first_half(sources: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each cell is of every second source, in an order that has nothing to do with their names."""
    order = sorted(set(sources), key=lambda source: hashlib.sha256(source.encode(errors="surrogateescape")).digest())
    chosen = set(order[::2])
    return np.array([source in chosen for source in sources], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two readers' percents of a class lie apart on average, without sign; low, high: its 95 % interval."""

    slides: int
    percent: float
    low: float
    high: float

    @classmethod
    def of(cls, found: BlandAltman) -> Difference:
        """The mean difference of a comparison.

        >>> bias = BlandAltman.of("eosinophil", [1.0, 1.0, 1.0], [5.0, 6.0, 4.0])
        >>> Difference.of(bias).percent
        4.0
        """
        away, reach = abs(found.bias), (found.bias_high - found.bias_low) / 2
        return cls(found.slides, away, max(0.0, away - reach), away + reach)


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
    def of(cls, label: str, tool: Sequence[float], reader: Sequence[float]) -> BlandAltman | None:
        """None for fewer than two slides."""
        if len(tool) < 2:
            return None
        a, b = np.asarray(tool, dtype=float), np.asarray(reader, dtype=float)
        differences = a - b
        bias, sd = float(differences.mean()), float(differences.std(ddof=1))
        reach = float(t.ppf(0.975, len(a) - 1)) * sd / len(a) ** 0.5
        return cls(
            label=label,
            slides=len(a),
            bias=bias,
            bias_low=bias - reach,
            bias_high=bias + reach,
            low=bias - 1.96 * sd,
            high=bias + 1.96 * sd,
            means=tuple(((a + b) / 2).tolist()),
            differences=tuple(differences.tolist()),
        )


def same_by_sampling(n: int, total: int, other_n: int, other_total: int) -> bool:
    """Whether two counts of one smear differ by no more than sampling explains: Fisher's exact test at 5 %.

    >>> same_by_sampling(60, 100, 55, 100), same_by_sampling(60, 100, 30, 100)
    (True, False)
    """
    table = np.array([[n, total - n], [other_n, other_total - other_n]])
    return bool(fisher_exact(table).pvalue >= 0.05)

"""A correction to a classifier's last layer, fitted to a laboratory's cells on features that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from wbctool.inference.classifier_head import LastLayer

MAX_DIMENSIONS = 128  # of the features, those in which cells differ most; more cost time and gave nothing
_MAX_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class ReducedCells:
    """Cells as a classifier's last layer sees them, in a few dimensions.

    Attributes:
        logits: (N, outputs) float64, by the layer as it is.
        features: (N, k) float64: the features in the chosen dimensions, divided by their root mean square length.
    """

    logits: NDArray[np.float64]
    features: NDArray[np.float64]

    def select(self, chosen: NDArray[np.bool_]) -> ReducedCells:
        """Return some of the cells."""
        return ReducedCells(self.logits[chosen], self.features[chosen])


@dataclass(frozen=True, slots=True)
class Correction:
    """What is added to a last layer.

    Attributes:
        weight: (outputs, k) float64, in the dimensions of :class:`Basis`.
        bias: (outputs,) float64.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def correct_logits(self, cells: ReducedCells) -> NDArray[np.float64]:
        """Return the logits (N, outputs) of cells with the correction."""
        logits: NDArray[np.float64] = cells.logits + cells.features @ self.weight.T + self.bias
        return logits


@dataclass(frozen=True, slots=True)
class Basis:
    """The dimensions of a classifier's features in which cells differ most.

    Attributes:
        layer: The classifier's last layer.
        directions: (D, k) float64, orthonormal columns divided by the features' root mean square length.
    """

    layer: LastLayer
    directions: NDArray[np.float64]

    @classmethod
    def fit(cls, layer: LastLayer, features: NDArray[np.float32]) -> Basis:
        """Choose the dimensions.

        Args:
            layer: The classifier's last layer.
            features: (N, D), of cells of any laboratory.
        """
        moments = features.astype(np.float64).T @ features.astype(np.float64) / len(features)
        _, directions = np.linalg.eigh(moments)
        return cls(layer, directions[:, -MAX_DIMENSIONS:] / max(float(np.sqrt(np.trace(moments))), 1e-12))

    def reduce(self, features: NDArray[np.float32]) -> ReducedCells:
        """Return cells with features (N, D) in the chosen dimensions."""
        return ReducedCells(self.layer.compute_logits(features).astype(np.float64), features @ self.directions)

    def correct(self, correction: Correction) -> LastLayer:
        """Return the last layer with a correction."""
        weight = self.layer.weight + correction.weight @ self.directions.T
        return LastLayer(weight.astype(np.float32), (self.layer.bias + correction.bias).astype(np.float32))


def fit_correction(
    cells: ReducedCells, y_true: NDArray[np.int64], weights: NDArray[np.float64], l2_penalty: float
) -> Correction:
    """Fit a correction to labeled cells.

    It minimizes the cells' mean cross-entropy plus ``l2_penalty`` times the squared length of the correction.

    Args:
        cells: The cells, one at least.
        y_true: (N,) the index of each cell's output.
        weights: (N,) what each cell counts.
        l2_penalty: How strongly the correction is held near zero, positive.

    Returns:
        The correction.

    References:
        Li et al. 2018, Explicit inductive bias for transfer learning (L2-SP), arXiv 1802.01483.
    """
    n_outputs, n_dimensions = cells.logits.shape[1], cells.features.shape[1]
    weights = weights / weights.sum()
    inputs = np.hstack([cells.features, np.ones((len(cells.features), 1))])  # the last column is the bias
    one_hot = np.eye(n_outputs)[y_true]

    def loss_and_gradient(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        change = parameters.reshape(n_outputs, n_dimensions + 1)
        log_probabilities = log_softmax(cells.logits + inputs @ change.T, axis=1)
        loss = -weights @ (log_probabilities * one_hot).sum(axis=1) + l2_penalty * (change**2).sum()
        errors = (np.exp(log_probabilities) - one_hot) * weights[:, None]
        return float(loss), (errors.T @ inputs + 2 * l2_penalty * change).ravel()

    start = np.zeros(n_outputs * (n_dimensions + 1))
    fitted = minimize(
        loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": _MAX_ITERATIONS}
    ).x.reshape(n_outputs, n_dimensions + 1)
    return Correction(fitted[:, :-1], fitted[:, -1])

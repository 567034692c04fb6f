"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): where in a cell the classifier saw its class.

After the last convolution there are only pooling and dense layers, so the gradient is a few matrix products and needs
no autograd. The map helps a reader to check a cell; it is no evidence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbctool.inference.classifier_head import DenseHead


def grad_cam(last_map: NDArray[np.float32], label: int, head: DenseHead) -> bytes:
    """Compute the Grad-CAM map of one cell.

    Cells are done one by one, so that a map does not depend on the cells beside it.

    Args:
        last_map: (C, h, w) float32, the output of the last convolution.
        label: The index of the class.
        head: The dense layers.

    Returns:
        h × w bytes, row by row, scaled so that the strongest point is 255; all zero if nothing speaks for the class.
    """
    weights = head_gradient(global_pool(last_map, head), label, head)
    # A channel's weight is the mean of its gradient over the map. Average and max pooling distribute all of the pooled
    # gradient over the map, so this mean is the pooled gradient up to a factor that is the same for all channels.
    cam = np.maximum(np.tensordot(weights, last_map, axes=1), 0)
    peak = cam.max()
    return (cam * (255 / peak if peak > 0 else 0)).round().astype(np.uint8).tobytes()


def global_pool(last_map: NDArray[np.float32], head: DenseHead) -> NDArray[np.float32]:
    """Pool a map as the graph does.

    Args:
        last_map: (C, h, w) float32.
        head: The dense layers, which say whether a 2×2 max pooling comes first.

    Returns:
        (C,) float32, the input of the dense layers.
    """
    if head.max_pooled:
        rows, columns = (side // 2 * 2 for side in last_map.shape[1:])
        upper, lower = last_map[:, 0:rows:2, :columns], last_map[:, 1:rows:2, :columns]
        row_maxima = np.maximum(upper, lower)
        last_map = np.maximum(row_maxima[..., 0::2], row_maxima[..., 1::2])
    pooled: NDArray[np.float32] = last_map.mean(axis=(1, 2))
    return pooled


def head_forward(pooled: NDArray[np.float32], head: DenseHead) -> NDArray[np.float32]:
    """Compute the logits, (classes,) float32, from the pooled map, (C,) float32."""
    *_, logits = _activations(pooled, head)
    return logits


def head_gradient(pooled: NDArray[np.float32], label: int, head: DenseHead) -> NDArray[np.float32]:
    """Compute the gradient of one logit with respect to the pooled map.

    Args:
        pooled: (C,) float32.
        label: The index of the class.
        head: The dense layers.

    Returns:
        (C,) float32.
    """
    *hidden, _ = _activations(pooled, head)
    gradient: NDArray[np.float32] = head.layers[-1][0][label]
    for (weight, _), value in zip(reversed(head.layers[:-1]), reversed(hidden), strict=True):
        gradient = (gradient * (value > 0)) @ weight
    return gradient


def _activations(pooled: NDArray[np.float32], head: DenseHead) -> list[NDArray[np.float32]]:
    """Return the output of each layer before its ReLU."""
    activations: list[NDArray[np.float32]] = []
    for weight, bias in head.layers:
        layer_input = np.maximum(activations[-1], 0) if activations else pooled
        activations.append(weight @ layer_input + bias)
    return activations

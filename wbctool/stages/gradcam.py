"""Where in a cell the classifier saw its class: Grad-CAM (Selvaraju 2017, arXiv 1610.02391), without autograd.

Behind the last convolution there are only pooling and dense layers, through which a gradient goes back in a few
products. A check for a reader's eye, not evidence.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wbctool.inference.classifier_head import DenseHead


def grad_cam(last_map: NDArray[np.float32], label: int, head: DenseHead) -> bytes:
    """last_map: (C, h, w), the last convolution's output of one cell. label: which logit.

    Returns h × w bytes, row by row, 255 at the strongest point; all zero where nothing speaks for the label.
    One cell at a time, so that its map does not depend on the cells beside it.
    """
    weights = head_gradient(global_pool(last_map, head), label, head)
    # A channel's weight is its gradient's mean over the map. Mean and maxima pass all of the pooled gradient on, to
    # different points, so that mean is the pooled gradient but for a factor that all channels share.
    cam = np.maximum(np.tensordot(weights, last_map, axes=1), 0)
    peak = cam.max()
    return (cam * (255 / peak if peak > 0 else 0)).round().astype(np.uint8).tobytes()


def global_pool(last_map: NDArray[np.float32], head: DenseHead) -> NDArray[np.float32]:
    """(C, h, w) -> (C,): what the dense layers see."""
    if head.max_pooled:
        rows, columns = (side // 2 * 2 for side in last_map.shape[1:])
        upper, lower = last_map[:, 0:rows:2, :columns], last_map[:, 1:rows:2, :columns]
        row_maxima = np.maximum(upper, lower)
        last_map = np.maximum(row_maxima[..., 0::2], row_maxima[..., 1::2])
    pooled: NDArray[np.float32] = last_map.mean(axis=(1, 2))
    return pooled


def head_forward(pooled: NDArray[np.float32], head: DenseHead) -> NDArray[np.float32]:
    """(C,) -> (classes,)."""
    *_, logits = _activations(pooled, head)
    return logits


def head_gradient(pooled: NDArray[np.float32], label: int, head: DenseHead) -> NDArray[np.float32]:
    """How the label's logit changes with each of the pooled channels: (C,)."""
    *hidden, _ = _activations(pooled, head)
    gradient: NDArray[np.float32] = head.layers[-1][0][label]
    for (weight, _), value in zip(reversed(head.layers[:-1]), reversed(hidden), strict=True):
        gradient = (gradient * (value > 0)) @ weight
    return gradient


def _activations(pooled: NDArray[np.float32], head: DenseHead) -> list[NDArray[np.float32]]:
    """The output of each layer before its ReLU."""
    activations: list[NDArray[np.float32]] = []
    for weight, bias in head.layers:
        layer_input = np.maximum(activations[-1], 0) if activations else pooled
        activations.append(weight @ layer_input + bias)
    return activations

"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): where in a cell a classifier saw each class.

Only pooling and dense layers follow the last convolution, so the gradient is itself a forward computation and can be
exported. The map helps a reader to check a cell; it is no evidence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wbctool_training.models.classifier import CellClassifier


def grad_cam(network: CellClassifier, last_map: Tensor) -> Tensor:
    """Compute the Grad-CAM maps of all of a classifier's outputs.

    Args:
        network: The classifier.
        last_map: (N, C, h, w) float, the last convolution's map (:meth:`CellClassifier.forward_features`).

    Returns:
        (N, outputs, h, w) uint8. Each map is scaled so that its strongest point is 255; it is all zero if nothing
        speaks for the output.
    """
    # A channel's weight is the mean of its gradient over the map. Average and max pooling distribute all of the pooled
    # gradient over the map, so this mean is the pooled gradient up to a factor that is the same for all channels.
    maps = torch.relu(_pooled_gradient(network, last_map) @ last_map.flatten(2))
    peaks = maps.amax(dim=2, keepdim=True)
    scaled = maps / torch.where(peaks > 0, peaks, 1.0) * 255
    return torch.unflatten(scaled.round().to(torch.uint8), 2, last_map.shape[2:])


def _pooled_gradient(network: CellClassifier, last_map: Tensor) -> Tensor:
    """Return the logits' gradient with respect to the pooled map: (N, outputs, C), or (outputs, C) for all cells."""
    activations = [network.pool(last_map)]
    for layer in network.dense:
        activations.append(layer(activations[-1]))
    # Nothing is done to the weights alone, as the export could store its result in their place: the maps must use the
    # weights of the logits, which `wbctool adapt` replaces.
    gradient: Tensor = network.output.weight
    for layer in reversed(list(network.dense)):
        activation = activations.pop()
        if isinstance(layer, nn.ReLU):
            gradient = gradient * (activation > 0)[:, None]
        elif isinstance(layer, nn.Linear):
            gradient = gradient @ layer.weight
    return gradient

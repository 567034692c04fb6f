"""The SRGAN's losses: Ferdousi et al. 2024 (doi 10.1016/j.teler.2024.100163), equations 4 to 7."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from wbctool_training.models.backbones import IMAGENET_MEAN, IMAGENET_STD, VGG19_BLOCKS, vgg_block_end

_EPSILON = 1e-12


class ContentLoss(nn.Module):
    """Mean squared difference of VGG19 feature maps φ(i, j): the j-th convolution of block i, after its ReLU (eq. 5).

    It is divided by the mean square of HR's map, because the available files of VGG weights differ in scale by orders
    of magnitude and the adversarial term's weight of 1e-3 presumes a content loss below 1.

    Args:
        features: VGG19's convolutions with ImageNet weights; frozen here.
        layer: (i, j), both counted from 1.

    Raises:
        ValueError: VGG19 has no such layer.

    References:
        Ledig et al. 2017, arXiv 1609.04802, who scale their VGG features by 1/12.75 instead.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, layer: tuple[int, int]) -> None:
        super().__init__()
        block, convolution = layer
        if not (1 <= block <= len(VGG19_BLOCKS) and 1 <= convolution <= VGG19_BLOCKS[block - 1][0]):
            raise ValueError(f"VGG19 has no φ{layer}")
        self.features = features[: vgg_block_end(block - 1) + 2 * convolution].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Compare images.

        Args:
            sr: (N, 3, H, W) float in [0, 1], super-resolved; the gradient reaches only this.
            hr: The same shape and range, the target.

        Returns:
            The loss, a scalar.
        """
        with torch.no_grad():
            target = self._feature_map(hr)
        return mse_loss(self._feature_map(sr).float(), target.float()) / target.float().square().mean().clamp(
            min=_EPSILON
        )

    def _feature_map(self, rgb: Tensor) -> Tensor:
        """Return φ of images in [0, 1]."""
        out: Tensor = self.features((rgb - self.mean) / self.std)
        return out


def adversarial_loss(logits_sr: Tensor) -> Tensor:
    """Compute -log D(G(LR)), averaged over the batch (eq. 6), with D = sigmoid(logits).

    Args:
        logits_sr: The discriminator's logits of super-resolved images, (N, 1).
    """
    return softplus(-logits_sr.float()).mean()


def discriminator_loss(logits_hr: Tensor, logits_sr: Tensor) -> Tensor:
    """Compute -log D(HR) - log(1 - D(G(LR))), averaged over the batch (eq. 7).

    Args:
        logits_hr: The discriminator's logits of real images, (N, 1).
        logits_sr: Those of super-resolved images, (N, 1).
    """
    return softplus(-logits_hr.float()).mean() + softplus(logits_sr.float()).mean()

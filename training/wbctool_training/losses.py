"""The SRGAN's losses: Ferdousi et al. 2024, equations 4 to 7."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from wbctool_training.models.vgg import VGG19_BLOCKS, block_end
from wbctool_training.weights import IMAGENET_MEAN, IMAGENET_STD

_EPSILON = 1e-12


class ContentLoss(nn.Module):
    """Mean squared difference of VGG19 feature maps φ(i, j): the j-th convolution of block i, after its ReLU (eq. 5).

    Divided by HR's mean square there: the files of VGG weights in use differ in scale by orders of magnitude (Ledig et
    al. 2017 scale by 1/12.75 for theirs), and the adversarial term's weight of 1e-3 is meant beside a loss below 1.

    features: VGG19's convolutions with ImageNet weights; frozen here. layer: (i, j), both counted from 1.
    Calling: sr and hr, each [B, 3, H, W] float in [0, 1] -> scalar. The gradient reaches sr alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: nn.Sequential, layer: tuple[int, int]) -> None:
        super().__init__()
        block, convolution = layer
        if not (1 <= block <= len(VGG19_BLOCKS) and 1 <= convolution <= VGG19_BLOCKS[block - 1][0]):
            raise ValueError(f"VGG19 has no φ{layer}")
        self.features = features[: block_end(block - 1) + 2 * convolution].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        with torch.no_grad():
            target = self._feature_map(hr)
        return mse_loss(self._feature_map(sr).float(), target.float()) / target.float().square().mean().clamp(
            min=_EPSILON
        )

    def _feature_map(self, rgb: Tensor) -> Tensor:
        out: Tensor = self.features((rgb - self.mean) / self.std)
        return out


def adversarial_loss(logits_sr: Tensor) -> Tensor:
    """-log D(G(LR)), batch mean (eq. 6), D = sigmoid(logits)."""
    return softplus(-logits_sr.float()).mean()


def discriminator_loss(logits_hr: Tensor, logits_sr: Tensor) -> Tensor:
    """-log D(HR) - log(1 - D(G(LR))), batch mean (eq. 7)."""
    return softplus(-logits_hr.float()).mean() + softplus(logits_sr.float()).mean()

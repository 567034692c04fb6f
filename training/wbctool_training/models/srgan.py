"""The SRGAN of Ferdousi et al. 2024 (doi 10.1016/j.teler.2024.100163), Tables 1 and 2.

After Ledig et al. 2017, arXiv 1609.04802. Generator and discriminator have 2,044,291 and 38,249,281 parameters as
Keras counts them, with BatchNorm's moving mean and variance.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX

SCALE = 4
HR_PX = CLASSIFIER_INPUT_PX


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalization, PReLU between them, and a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.act = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.act(self.norm1(self.conv1(features)))
        out: Tensor = features + self.norm2(self.conv2(inner))
        return out


class _UpBlock(nn.Module):
    """Convolution, PReLU, nearest-neighbor doubling; PReLU has one slope per channel, so their order is free."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.act = nn.PReLU(outputs)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.interpolate(self.act(self.conv(features)), scale_factor=2.0, mode="nearest")


class Generator(nn.Module):
    """The generator (SRResNet), Table 1.

    Args:
        blocks: Number of residual blocks.
        width: Channels of the residual blocks.
    """

    def __init__(self, blocks: int = 16, width: int = 64) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU(width))
        self.blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(blocks)))
        self.trunk = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.up = nn.Sequential(_UpBlock(width, 4 * width), _UpBlock(4 * width, 4 * width))
        self.tail = nn.Conv2d(4 * width, 3, 9, padding=4)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge images four times.

        Args:
            lr: (N, 3, h, w) float in [0, 1].

        Returns:
            (N, 3, 4h, 4w) float, trained to be in [0, 1] but not clipped.
        """
        first = self.head(lr)
        out: Tensor = self.tail(self.up(first + self.trunk(self.blocks(first))))
        return out

    @torch.no_grad()
    def init_as_interpolation(self) -> None:
        """Initialize the network as a smooth interpolation, so that it learns only what that lacks.

        Three channels carry the colors through (Dirac kernels), every residual branch starts at zero, and the last
        convolution smooths the doubled pixels. All other weights stay random.

        References:
            Zero-initialized residual branches: Goyal et al. 2017, arXiv 1706.02677.
        """
        _init_identity(cast(nn.Conv2d, self.head[0]))
        for block in self.blocks:
            nn.init.zeros_(cast(_ResidualBlock, block).norm2.weight)
        nn.init.zeros_(cast(nn.BatchNorm2d, self.trunk[1]).weight)
        for up in self.up:
            _init_identity(cast(_UpBlock, up).conv)
        offsets = torch.arange(9, dtype=torch.float32) - 4
        gaussian = torch.exp(-(offsets**2) / (2 * 1.4**2))
        kernel = torch.outer(gaussian, gaussian) / gaussian.sum() ** 2
        self.tail.weight.mul_(0.1)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        for channel in range(3):
            self.tail.weight[channel, :3] = 0
            self.tail.weight[channel, channel] = kernel


def _init_identity(conv: nn.Conv2d) -> None:
    """Make the first three output channels copies of the first three input channels."""
    center = conv.kernel_size[0] // 2
    assert conv.bias is not None
    for channel in range(3):
        conv.weight[channel] = 0
        conv.weight[channel, channel, center, center] = 1
        conv.bias[channel] = 0


class Discriminator(nn.Module):
    """The discriminator, Table 2.

    Args:
        width: Channels of the first layer; every second layer has twice as many as the one before.
        hidden: Units of the dense layer.
    """

    def __init__(self, width: int = 64, hidden: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for index in range(8):
            outputs = width * 2 ** (index // 2)
            layers.append(nn.Conv2d(inputs, outputs, 3, stride=1 + index % 2, padding=1))
            if index:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = outputs
        side = HR_PX // 2**4
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * side * side, hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden, 1),
        )

    def forward(self, hr: Tensor) -> Tensor:
        """Judge images.

        Args:
            hr: (N, 3, 128, 128) float in [0, 1].

        Returns:
            Logits (N, 1); the sigmoid is the probability that an image is real.
        """
        out: Tensor = self.head(self.features(hr))
        return out

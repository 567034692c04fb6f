"""The learned detector: a center-point network like CenterNet (Zhou et al. 2019, arXiv 1904.07850).

Each object is a peak in its class's heat map. The box is read at the peak as the distances to its four sides (FCOS,
Tian et al. 2019, arXiv 1904.01355), which keeps boxes precise if the image's border cuts a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wbctool.types.cells import ObjectClass

STRIDE = 8
N_CLASSES = len(ObjectClass)
_PRIOR_LOGIT = -4.6  # heat maps start at probability 0.01, or the background would dominate the first steps
_PRIOR_LOG_SIDE = 1.5  # the distances start at 18 pixels


class CellDetector(nn.Module):
    """Find nucleated cells, red cells and platelets.

    Args:
        width: Channels of the first resolution; deeper ones have two and four times as many.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.75, 0.65, 0.72]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.2, 0.2]).view(1, 3, 1, 1))
        w1, w2, w3 = width, width * 2, width * 4
        self.stem = nn.Sequential(_conv_block(3, width // 2, 2), _conv_block(width // 2, w1, 2), _Residual(w1))
        self.stage8 = nn.Sequential(_conv_block(w1, w2, 2), _Residual(w2), _Residual(w2))
        self.stage16 = nn.Sequential(_conv_block(w2, w3, 2), _Residual(w3))
        self.stage32 = nn.Sequential(_conv_block(w3, w3, 2), _Residual(w3), _Residual(w3))
        self.lateral8 = nn.Conv2d(w2, w2, 1)
        self.lateral16 = nn.Conv2d(w3, w3, 1)
        self.reduce16 = nn.Conv2d(w3, w2, 1)
        self.smooth = _conv_block(w2, w2)
        self.heat = nn.Sequential(_conv_block(w2, w2), _output_conv(w2, N_CLASSES, _PRIOR_LOGIT))
        self.sides = nn.Sequential(_conv_block(w2, w2), _output_conv(w2, 4, _PRIOR_LOG_SIDE))

    def forward_logits(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the outputs of :meth:`forward` with the heat maps as logits, before their sigmoid."""
        at8 = self.stage8(self.stem((rgb - self.mean) / self.std))
        at16 = self.stage16(at8)
        at16 = self.lateral16(at16) + _upsample(self.stage32(at16))
        features = self.smooth(self.lateral8(at8) + _upsample(self.reduce16(at16)))
        sides = self.sides(features).float().clamp(-4.0, 5.5).exp() * STRIDE / 2
        return self.heat(features).float(), sides

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Compute heat maps and boxes.

        Args:
            rgb: (N, 3, H, W) float in [0, 1]; H and W multiples of 32.

        Returns:
            heat: (N, 3, H/8, W/8), the probability that an object's center lies there, one map for each
            wbctool.types.cells.ObjectClass in its order. sides: (N, 4, H/8, W/8), pixels from the location's center
            to the box's left, top, right and bottom side.
        """
        heat, sides = self.forward_logits(rgb)
        return heat.sigmoid(), sides


def _conv_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Build a 3×3 convolution with batch normalization and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _output_conv(inputs: int, outputs: int, bias: float) -> nn.Conv2d:
    """Build a 1×1 convolution whose bias starts at ``bias``."""
    conv = nn.Conv2d(inputs, outputs, 1)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv


def _upsample(features: Tensor) -> Tensor:
    """Double height and width by nearest neighbor."""
    return nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")


class _Residual(nn.Module):
    """Two 3×3 convolutions with a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv_block(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.second(self.first(features)))

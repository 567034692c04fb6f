"""The backbones: torchvision's that the paper compares (Table 6), and the compact reader's EfficientNet-Lite0.

VGG: Simonyan and Zisserman 2015, arXiv 1409.1556. ResNet: He et al. 2016, arXiv 1512.03385. EfficientNet: Tan and
Le 2019, arXiv 1905.11946.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby

from torch import nn
from torchvision.models import VGG19_Weights, efficientnet_b7, resnet50
from torchvision.models.vgg import cfgs, make_layers

from wbctool_training.models.efficientnet_lite import LITE0_CHANNELS, build_efficientnet_lite0


class Backbone(StrEnum):
    """The convolutional network below a classifier's head. The readers use vgg19 and efficientnet_lite0."""

    VGG19 = "vgg19"
    VGG16 = "vgg16"
    RESNET50 = "resnet50"
    EFFICIENTNET_B7 = "efficientnet_b7"
    EFFICIENTNET_LITE0 = "efficientnet_lite0"


CHANNELS = {
    Backbone.VGG19: 512,
    Backbone.VGG16: 512,
    Backbone.RESNET50: 2048,
    Backbone.EFFICIENTNET_B7: 2560,
    Backbone.EFFICIENTNET_LITE0: LITE0_CHANNELS,
}

_IMAGENET_TRANSFORMS = VGG19_Weights.IMAGENET1K_V1.transforms()
IMAGENET_MEAN: tuple[float, ...] = tuple(_IMAGENET_TRANSFORMS.mean)  # RGB in [0, 1]
IMAGENET_STD: tuple[float, ...] = tuple(_IMAGENET_TRANSFORMS.std)

# Mean and standard deviation of the pixels in [0, 1] with which a backbone's ImageNet weights were trained.
NORMALIZATIONS = dict.fromkeys(Backbone, (IMAGENET_MEAN, IMAGENET_STD)) | {
    Backbone.EFFICIENTNET_LITE0: ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
}

_VGG_CONFIGS = {Backbone.VGG19: cfgs["E"], Backbone.VGG16: cfgs["D"]}


def _split_blocks(config: Sequence[str | int]) -> tuple[tuple[int, int], ...]:
    """Return (convolutions, filters) of each block of a torchvision VGG configuration, which "M" (pooling) ends."""
    blocks = [list(layers) for is_pooling, layers in groupby(config, lambda layer: layer == "M") if not is_pooling]
    return tuple((len(filters), int(filters[0])) for filters in blocks)


VGG19_BLOCKS = _split_blocks(_VGG_CONFIGS[Backbone.VGG19])
VGG16_BLOCKS = _split_blocks(_VGG_CONFIGS[Backbone.VGG16])


def vgg_block_end(block: int, blocks: Sequence[tuple[int, int]] = VGG19_BLOCKS) -> int:
    """Return the index of the first layer after a VGG block's pooling.

    Args:
        block: Counted from 1; 0 gives 0.
        blocks: VGG19_BLOCKS or VGG16_BLOCKS.
    """
    return sum(2 * convolutions + 1 for convolutions, _ in blocks[:block])


# The first layer after each halving of the input's side: 1, 1/2, 1/4, 1/8, 1/16 and 1/32 of it.
_BLOCK_ENDS = {
    Backbone.VGG19: tuple(vgg_block_end(n, VGG19_BLOCKS) for n in range(6)),
    Backbone.VGG16: tuple(vgg_block_end(n, VGG16_BLOCKS) for n in range(6)),
    Backbone.RESNET50: (0, 3, 5, 6, 7, 8),
    Backbone.EFFICIENTNET_B7: (0, 2, 3, 4, 6, 9),
    Backbone.EFFICIENTNET_LITE0: (0, 2, 4, 6, 12, 18),
}


def build_features(backbone: Backbone) -> nn.Sequential:
    """Build a backbone's convolutional part with random weights.

    Args:
        backbone: Which network.

    Returns:
        A Sequential that maps (N, 3, H, W) to (N, CHANNELS[backbone], H/32, W/32). Its last layer is VGG's fifth
        pooling, or an identity in the other networks, so the output of all layers but the last is the map for
        Grad-CAM. Weights are numbered as torchvision numbers them (``features.0`` and so on).
    """
    match backbone:
        case Backbone.VGG19 | Backbone.VGG16:
            features: nn.Sequential = make_layers(_VGG_CONFIGS[backbone])
            return features
        case Backbone.RESNET50:
            return nn.Sequential(*list(resnet50(weights=None).children())[:-2], nn.Identity())
        case Backbone.EFFICIENTNET_B7:
            return nn.Sequential(*efficientnet_b7(weights=None).features, nn.Identity())
        case Backbone.EFFICIENTNET_LITE0:
            return build_efficientnet_lite0()


def count_frozen_layers(backbone: Backbone, blocks: int) -> int:
    """Return how many layers the first ``blocks`` of a backbone's five blocks have; a block halves the side once."""
    return _BLOCK_ENDS[backbone][blocks]

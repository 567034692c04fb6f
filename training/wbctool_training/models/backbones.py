"""The backbones: torchvision's that the paper compares (Table 6), and the compact reader's EfficientNet-Lite0.

VGG: Simonyan and Zisserman 2015, arXiv 1409.1556. ResNet: He et al. 2016, arXiv 1512.03385. EfficientNet: Tan and
Le 2019, arXiv 1905.11946.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


_IMAGENET_TRANSFORMS = VGG19_Weights.IMAGENET1K_V1.transforms()
IMAGENET_MEAN: tuple[float, ...] = tuple(_IMAGENET_TRANSFORMS.mean)  # RGB in [0, 1]
IMAGENET_STD: tuple[float, ...] = tuple(_IMAGENET_TRANSFORMS.std)


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What a classifier must know of its backbone.

    Attributes:
        build: Builds the convolutional part with random weights, as :func:`build_features` returns it.
        channels: Channels of the last map.
        block_ends: The first layer after each halving of the input's side: 1, 1/2, 1/4, 1/8, 1/16 and 1/32 of it.
        mean: Mean of the pixels in [0, 1], RGB, with which its ImageNet weights were trained.
        std: Standard deviation of the same.
        has_dense_layers: Whether the paper's dense layers follow; otherwise the classes' layer does at once.
    """

    build: Callable[[], nn.Sequential]
    channels: int
    block_ends: tuple[int, ...]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    has_dense_layers: bool = True


def _split_blocks(config: Sequence[str | int]) -> tuple[tuple[int, int], ...]:
    """Return (convolutions, filters) of each block of a torchvision VGG configuration, which "M" (pooling) ends."""
    blocks = [list(layers) for is_pooling, layers in groupby(config, lambda layer: layer == "M") if not is_pooling]
    return tuple((len(filters), int(filters[0])) for filters in blocks)


VGG19_BLOCKS = _split_blocks(cfgs["E"])
VGG16_BLOCKS = _split_blocks(cfgs["D"])


def vgg_block_end(block: int, blocks: Sequence[tuple[int, int]] = VGG19_BLOCKS) -> int:
    """Return the index of the first layer after a VGG block's pooling.

    Args:
        block: Counted from 1; 0 gives 0.
        blocks: VGG19_BLOCKS or VGG16_BLOCKS.
    """
    return sum(2 * convolutions + 1 for convolutions, _ in blocks[:block])


def _build_resnet50() -> nn.Sequential:
    """Build ResNet50 without its pooling and its classes."""
    return nn.Sequential(*list(resnet50(weights=None).children())[:-2], nn.Identity())


def _build_efficientnet_b7() -> nn.Sequential:
    """Build EfficientNet-B7 without its pooling and its classes."""
    return nn.Sequential(*efficientnet_b7(weights=None).features, nn.Identity())


BACKBONE_SPECS = {
    Backbone.VGG19: BackboneSpec(
        build=lambda: make_layers(cfgs["E"]),
        channels=512,
        block_ends=tuple(vgg_block_end(n, VGG19_BLOCKS) for n in range(6)),
    ),
    Backbone.VGG16: BackboneSpec(
        build=lambda: make_layers(cfgs["D"]),
        channels=512,
        block_ends=tuple(vgg_block_end(n, VGG16_BLOCKS) for n in range(6)),
    ),
    Backbone.RESNET50: BackboneSpec(
        build=_build_resnet50,
        channels=2048,
        block_ends=(0, 3, 5, 6, 7, 8),
    ),
    Backbone.EFFICIENTNET_B7: BackboneSpec(
        build=_build_efficientnet_b7,
        channels=2560,
        block_ends=(0, 2, 3, 4, 6, 9),
    ),
    Backbone.EFFICIENTNET_LITE0: BackboneSpec(
        build=build_efficientnet_lite0,
        channels=LITE0_CHANNELS,
        block_ends=(0, 2, 4, 6, 12, 18),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        has_dense_layers=False,
    ),
}


def build_features(backbone: Backbone) -> nn.Sequential:
    """Build a backbone's convolutional part with random weights.

    Args:
        backbone: Which network.

    Returns:
        A Sequential that maps (N, 3, H, W) to (N, channels, H/32, W/32), with the channels of its BackboneSpec. Its
        last layer is VGG's fifth pooling, or an identity in the other networks, so the output of all layers but the
        last is the map for Grad-CAM. Weights are numbered as torchvision numbers them (``features.0`` and so on).
    """
    return BACKBONE_SPECS[backbone].build()


def count_frozen_layers(backbone: Backbone, blocks: int) -> int:
    """Return how many layers the first ``blocks`` of a backbone's five blocks have; a block halves the side once."""
    return BACKBONE_SPECS[backbone].block_ends[blocks]

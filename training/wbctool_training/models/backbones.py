"""The convolutional parts that the paper compares (Table 6): VGG19, VGG16, ResNet50 and EfficientNetB7."""

from __future__ import annotations

from enum import StrEnum

from torch import nn
from torchvision.models import efficientnet_b7, resnet50

from wbctool_training.models.vgg import VGG16_BLOCKS, VGG19_BLOCKS, block_end, build_vgg_features


class Backbone(StrEnum):
    """What carries the classifier's head. vgg19 is what ships."""

    VGG19 = "vgg19"
    VGG16 = "vgg16"
    RESNET50 = "resnet50"
    EFFICIENTNET_B7 = "efficientnet_b7"


CHANNELS = {Backbone.VGG19: 512, Backbone.VGG16: 512, Backbone.RESNET50: 2048, Backbone.EFFICIENTNET_B7: 2560}

# Index just past each of the five resolutions, as they are frozen: 1/2, 1/4, 1/8, 1/16, 1/32 of the input's side.
_BLOCK_ENDS = {
    Backbone.VGG19: tuple(block_end(n, VGG19_BLOCKS) for n in range(6)),
    Backbone.VGG16: tuple(block_end(n, VGG16_BLOCKS) for n in range(6)),
    Backbone.RESNET50: (0, 3, 5, 6, 7, 8),
    Backbone.EFFICIENTNET_B7: (0, 2, 3, 4, 6, 9),
}


def build_features(backbone: Backbone) -> nn.Sequential:
    """[B, 3, H, W] -> the last map [B, CHANNELS, H/32, W/32]; all but the last layer give the map to explain cells by.

    VGG ends in its fifth pooling, the others in an identity in its place.
    """
    match backbone:
        case Backbone.VGG19:
            return build_vgg_features(VGG19_BLOCKS)
        case Backbone.VGG16:
            return build_vgg_features(VGG16_BLOCKS)
        case Backbone.RESNET50:
            return nn.Sequential(*list(resnet50(weights=None).children())[:-2], nn.Identity())
        case Backbone.EFFICIENTNET_B7:
            return nn.Sequential(*efficientnet_b7(weights=None).features, nn.Identity())


def count_frozen_layers(backbone: Backbone, blocks: int) -> int:
    """The number of first layers that belong to the first ``blocks`` of five resolutions."""
    return _BLOCK_ENDS[backbone][blocks]

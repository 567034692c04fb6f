"""The convolutions of VGG19 and VGG16 (Simonyan 2015, arXiv 1409.1556)."""

from __future__ import annotations

from torch import nn

# Convolutions of each block: their number and their filters.
VGG19_BLOCKS: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
VGG16_BLOCKS: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def build_vgg_features(blocks: tuple[tuple[int, int], ...] = VGG19_BLOCKS) -> nn.Sequential:
    """The convolutional part, layer for layer as torchvision numbers it (``features.0`` …), last pooling included."""
    layers: list[nn.Module] = []
    inputs = 3
    for convolutions, filters in blocks:
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def block_end(block: int, blocks: tuple[tuple[int, int], ...] = VGG19_BLOCKS) -> int:
    """Index just past a block's pooling. block: counts from 1; 0 gives 0."""
    return sum(2 * convolutions + 1 for convolutions, _ in blocks[:block])

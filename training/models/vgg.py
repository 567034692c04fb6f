"""VGG19 (Simonyan 2015, arXiv 1409.1556) with the head of Ferdousi et al. 2024, Table 3.

21,206,852 parameters for four classes.
"""

from __future__ import annotations

from torch import Tensor, nn

# Convolutions of each block: their number and their filters.
VGG19_BLOCKS: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
VGG16_BLOCKS: tuple[tuple[int, int], ...] = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg_features(blocks: tuple[tuple[int, int], ...] = VGG19_BLOCKS) -> nn.Sequential:
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


class Vgg19Classifier(nn.Module):
    """VGG19 convolutions, global average pooling, dense 1024, 512, 256 and the classes, ReLU between.

    rgb: [B, 3, H, W] normalised with ImageNet's mean and deviation
      -> logits [B, classes]; ``parts`` gives the penultimate features [B, 256] and the last convolution's map
      [B, 512, H/16, W/16] too.
    """

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = vgg_features()
        self.dense = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(512, 1024), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(1024, 512), nn.ReLU(),
            nn.Linear(512, 256), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(256, classes)

    def parts(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, penultimate features, last convolution's map after its ReLU)."""
        last_map = self.features[:-1](rgb)
        pooled = self.features[-1](last_map).mean(dim=(2, 3))
        penultimate = self.dense(pooled)
        return self.output(penultimate), penultimate, last_map

    def forward(self, rgb: Tensor) -> Tensor:
        return self.parts(rgb)[0]

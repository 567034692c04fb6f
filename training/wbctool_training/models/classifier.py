"""The classifier of Ferdousi et al. 2024, Table 3: VGG19 with their head, 21,206,852 parameters for four classes."""

from __future__ import annotations

from torch import Tensor, nn

from wbctool_training.models.backbones import CHANNELS, Backbone, build_features


class CellClassifier(nn.Module):
    """A backbone's convolutions, global average pooling, dense 1024, 512, 256 and the classes, ReLU between.

    rgb: [B, 3, H, W] normalised with ImageNet's mean and deviation
      -> logits [B, classes]; ``forward_features`` gives the penultimate features [B, 256] and the last convolution's map too
      (VGG19: [B, 512, H/16, W/16]).
    """

    def __init__(self, n_classes: int, dropout: float = 0.0, backbone: Backbone = Backbone.VGG19) -> None:
        super().__init__()
        self.features = build_features(backbone)
        self.dense = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(CHANNELS[backbone], 1024), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(1024, 512), nn.ReLU(),
            nn.Linear(512, 256), nn.ReLU(),
        )  # fmt: skip
        self.output = nn.Linear(256, n_classes)

    def forward_features(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, penultimate features, last convolution's map after its ReLU)."""
        last_map = self.features[:-1](rgb)
        pooled = self.features[-1](last_map).mean(dim=(2, 3))
        penultimate = self.dense(pooled)
        return self.output(penultimate), penultimate, last_map

    def forward(self, rgb: Tensor) -> Tensor:
        return self.forward_features(rgb)[0]

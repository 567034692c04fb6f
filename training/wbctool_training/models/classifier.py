"""The classifier of Ferdousi et al. 2024 (doi 10.1016/j.teler.2024.100163), Table 3.

VGG19 with their head has 21,206,852 parameters for four classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wbctool_training.models.backbones import BACKBONE_SPECS, Backbone
from wbctool_training.models.white_balance import WhiteBalance


class CellClassifier(nn.Module):
    """A backbone, global average pooling, the paper's dense layers of 1024, 512 and 256 units, and the classes.

    A backbone whose BackboneSpec has no dense layers, the compact reader's, is followed by the classes at once.

    Args:
        n_outputs: Number of outputs: classes, then kinds that no class fits.
        dropout: Probability before the first two dense layers.
        backbone: The convolutional network; its weights start random.
    """

    def __init__(self, n_outputs: int, dropout: float = 0.0, backbone: Backbone = Backbone.VGG19) -> None:
        super().__init__()
        self.backbone = backbone
        spec = BACKBONE_SPECS[backbone]
        self.features = spec.build()
        if spec.has_dense_layers:
            n_features = 256
            self.dense = nn.Sequential(
                nn.Dropout(dropout), nn.Linear(spec.channels, 1024), nn.ReLU(),
                nn.Dropout(dropout), nn.Linear(1024, 512), nn.ReLU(),
                nn.Linear(512, n_features), nn.ReLU(),
            )  # fmt: skip
        else:
            n_features = spec.channels
            self.dense = nn.Sequential(nn.Dropout(dropout))
        self.output = nn.Linear(n_features, n_outputs)

    def forward_features(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify, and return what Grad-CAM and the out-of-distribution measures need.

        Args:
            rgb: (N, 3, H, W) float, normalized with the mean and deviation of the BackboneSpec.

        Returns:
            Logits (N, n_outputs), penultimate features (N, 256) and the last convolution's map after its ReLU
            (VGG19: (N, 512, H/16, W/16)). EfficientNet-Lite0 has 1,280 penultimate features.
        """
        last_map = self.features[:-1](rgb)
        penultimate = self.dense(self.pool(last_map))
        return self.output(penultimate), penultimate, last_map

    def pool(self, last_map: Tensor) -> Tensor:
        """Map the last convolution's map, (N, C, h, w), to the input of the dense layers, (N, C)."""
        pooled: Tensor = self.features[-1](last_map).mean(dim=(2, 3))
        return pooled

    def forward(self, rgb: Tensor) -> Tensor:
        """Return the logits of :meth:`forward_features`, (N, n_outputs)."""
        return self.forward_features(rgb)[0]


class NormalizedClassifier(nn.Module):
    """A classifier that takes pixels: optional white balance and the backbone's normalization, then the network.

    Args:
        network: The classifier of normalized images.
        white_balance: Whether the network sees white-balanced images.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: CellClassifier, white_balance: bool) -> None:
        super().__init__()
        self.network = network
        self.balance = WhiteBalance() if white_balance else nn.Identity()
        spec = BACKBONE_SPECS[network.backbone]
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1) * 255)

    def forward_features(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classify pixels.

        Args:
            rgb: (N, 3, H, W) uint8, or float in [0, 255].

        Returns:
            As :meth:`CellClassifier.forward_features`.
        """
        return self.network.forward_features(self.normalize(rgb))

    def normalize(self, rgb: Tensor) -> Tensor:
        """Return pixels, as :meth:`forward_features` takes them, as the network sees them."""
        normalized: Tensor = (self.balance(rgb.float()) - self.mean) / self.std
        return normalized.contiguous(memory_format=torch.channels_last)

    def forward(self, rgb: Tensor) -> Tensor:
        """Return the logits of :meth:`forward_features`, (N, n_outputs)."""
        return self.forward_features(rgb)[0]

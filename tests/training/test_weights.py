"""ImageNet weights are loaded strictly, and grown without changing the function."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_model
from wbctool_training.models.backbones import BACKBONE_SPECS, Backbone, build_features
from wbctool_training.weights import grow_to_vgg19, load_imagenet_features

from wbctool.errors import ModelMismatch, ModelNotFound


@pytest.fixture(scope="module")
def vgg16() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return build_features(Backbone.VGG16).eval()


def test_grow_to_vgg19_computes_the_same_function(vgg16: torch.nn.Sequential) -> None:
    grown = build_features(Backbone.VGG19).eval()
    grown.load_state_dict(grow_to_vgg19(vgg16.state_dict()), strict=True)
    rgb = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(grown(rgb), vgg16(rgb))


def test_load_imagenet_features_vgg16_npz_is_grown(vgg16: torch.nn.Sequential, tmp_path: Path) -> None:
    path = tmp_path / "vgg16.npz"
    np.savez(path, **{f"features.{k}": v.numpy().astype(np.float16) for k, v in vgg16.state_dict().items()})
    weight = load_imagenet_features(path)[14].weight  # the fourth block's third convolution sits elsewhere in VGG16
    torch.testing.assert_close(weight, vgg16[14].weight.half().float())


def test_load_imagenet_features_reads_torchvision_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "vgg19.pth"
    expected = build_features(Backbone.VGG19).state_dict()
    head = {"classifier.0.weight": torch.zeros(2, 2)}
    torch.save({**{f"features.{k}": v for k, v in expected.items()}, **head}, path)
    actual = load_imagenet_features(path).state_dict()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("backbone", [Backbone.VGG16, Backbone.RESNET50, Backbone.EFFICIENTNET_B7])
def test_load_imagenet_features_every_backbone_computes_as_torchvision(backbone: Backbone, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = get_model(backbone.value, weights=None).eval()
    state = theirs.state_dict()  # without VGG16's dense layers, 490 MB
    torch.save({k: v for k, v in state.items() if not k.startswith("classifier.")}, tmp_path / "theirs.pth")
    ours = load_imagenet_features(tmp_path / "theirs.pth", backbone).eval()
    rgb = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        if backbone is Backbone.RESNET50:
            theirs.avgpool = theirs.fc = torch.nn.Identity()
            expected = theirs(rgb).reshape(1, BACKBONE_SPECS[backbone].channels, 2, 2)
        else:
            expected = theirs.features(rgb)
        torch.testing.assert_close(ours(rgb), expected)
    assert expected.shape == (1, BACKBONE_SPECS[backbone].channels, 2, 2)


def test_load_imagenet_features_other_backbone_is_refused(vgg16: torch.nn.Sequential, tmp_path: Path) -> None:
    torch.save({f"features.{k}": v for k, v in vgg16.state_dict().items()}, tmp_path / "vgg16.pth")
    with pytest.raises(ModelMismatch, match=r"vgg16\.pth does not hold the convolutions of resnet50"):
        load_imagenet_features(tmp_path / "vgg16.pth", Backbone.RESNET50)


def test_load_imagenet_features_missing_layer_is_refused(vgg16: torch.nn.Sequential, tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    state = {f"features.{k}": v for k, v in vgg16.state_dict().items() if not k.startswith("28.")}
    torch.save(state, path)
    with pytest.raises(ModelMismatch, match=r"short\.pth"):
        load_imagenet_features(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.npz"])
def test_load_imagenet_features_other_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html>not found</html>")
    with pytest.raises(ModelMismatch, match=f"{name} holds no weights"):
        load_imagenet_features(tmp_path / name)


def test_load_imagenet_features_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"absent\.npz"):
        load_imagenet_features(tmp_path / "absent.npz")

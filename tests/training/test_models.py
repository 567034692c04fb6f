"""The networks are the paper's: Tables 1, 2 and 3, layer by layer, counted as Keras counts."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from wbctool_training.models.backbones import Backbone, build_features, count_frozen_layers
from wbctool_training.models.classifier import CellClassifier
from wbctool_training.models.detector import CellDetector
from wbctool_training.models.srgan import Discriminator, Generator


def count_keras_parameters(network: nn.Module) -> int:
    """Count parameters as Keras does, including BatchNorm's moving mean and variance."""
    n_moving = sum(b.numel() for name, b in network.named_buffers() if name.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in network.parameters()) + n_moving


def _layer_counts(network: nn.Module) -> list[int]:
    return [
        count_keras_parameters(m) for m in network.modules() if not list(m.children()) and count_keras_parameters(m)
    ]


def test_generator_has_table_1s_parameters_layer_by_layer() -> None:
    block = [36_928, 256, 64, 36_928, 256]
    expected = [15_616, 64, *block * 16, 36_928, 256, 147_712, 256, 590_080, 256, 62_211]
    assert _layer_counts(Generator()) == expected
    assert sum(expected) == count_keras_parameters(Generator()) == 2_044_291


def test_discriminator_has_table_2s_parameters_layer_by_layer() -> None:
    convolutions = [1_792]
    for kernel, norm in ((36_928, 256), (73_856, 512), (147_584, 512), (295_168, 1_024), (590_080, 1_024),
                         (1_180_160, 2_048), (2_359_808, 2_048)):  # fmt: skip
        convolutions += [kernel, norm]
    expected = [*convolutions, 33_555_456, 1_025]
    assert _layer_counts(Discriminator()) == expected
    assert sum(expected) == count_keras_parameters(Discriminator()) == 38_249_281


def test_classifier_has_table_3s_parameters_layer_by_layer() -> None:
    network = CellClassifier(n_outputs=4)
    assert count_keras_parameters(network.features) == 20_024_384
    assert _layer_counts(network.dense) + _layer_counts(network.output) == [525_312, 524_800, 131_328, 1_028]
    assert count_keras_parameters(network) == 21_206_852


def test_detector_stays_under_two_million_parameters() -> None:
    assert sum(p.numel() for p in CellDetector().parameters()) <= 2_000_000


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 20)])
def test_generator_any_shape_is_enlarged_four_times(height: int, width: int) -> None:
    sr = Generator(blocks=1).eval()(torch.rand(2, 3, height, width))
    assert sr.shape == (2, 3, 4 * height, 4 * width)


def test_generator_init_as_interpolation_keeps_the_image() -> None:
    torch.manual_seed(0)
    generator = Generator().eval()
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32).contiguous()
    expected = nn.functional.interpolate(ramp, scale_factor=4.0, mode="bilinear")
    inside = (..., slice(24, -24), slice(24, -24))

    def error() -> float:
        with torch.inference_mode():
            return float((generator(ramp) - expected)[inside].abs().mean())

    random_start = error()
    generator.init_as_interpolation()
    assert error() < 0.05 < random_start


def test_discriminator_judges_128_pixel_images() -> None:
    assert Discriminator().eval()(torch.rand(2, 3, 128, 128)).shape == (2, 1)


def test_classifier_gives_logits_features_and_the_last_map() -> None:
    logits, features, last_map = CellClassifier(n_outputs=8).eval().forward_features(torch.rand(2, 3, 128, 128))
    assert logits.shape == (2, 8)
    assert features.shape == (2, 256)
    assert last_map.shape == (2, 512, 8, 8)
    assert (last_map >= 0).all()


def test_compact_classifier_has_no_dense_layer_but_the_classes() -> None:
    network = CellClassifier(n_outputs=12, backbone=Backbone.EFFICIENTNET_LITE0).eval()
    logits, features, last_map = network.forward_features(torch.rand(2, 3, 64, 64))
    assert (logits.shape, features.shape, last_map.shape) == ((2, 12), (2, 1280), (2, 1280, 2, 2))
    assert sum(p.numel() for p in network.parameters()) < 4_000_000
    torch.testing.assert_close(features, last_map.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("make_network", "side_px"),
    [
        (Generator, 8),
        (lambda: CellClassifier(4), 64),
        (lambda: CellClassifier(4, backbone=Backbone.EFFICIENTNET_LITE0), 64),
        (CellDetector, 64),
    ],
    ids=["generator", "classifier", "compact", "detector"],
)
def test_every_parameter_gets_a_gradient(make_network: Callable[[], nn.Module], side_px: int) -> None:
    network = make_network()
    outputs = network(torch.rand(2, 3, side_px, side_px))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(o.float().square().mean() for o in outputs).backward()  # type: ignore[union-attr]
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("backbone", Backbone)
def test_count_frozen_layers_each_block_halves_the_side(backbone: Backbone) -> None:
    features = build_features(backbone).eval()
    rgb = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        sides = [features[: count_frozen_layers(backbone, blocks)](rgb).shape[2] for blocks in range(6)]
    assert sides == [64, 32, 16, 8, 4, 2]

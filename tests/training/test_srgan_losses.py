"""Each term of the SRGAN's loss alone: its value computed by hand, and its gradient for every generator weight."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate
from wbctool_training.lightning_modules.srgan import compute_generator_losses
from wbctool_training.models.backbones import Backbone, build_features
from wbctool_training.models.srgan import Discriminator, Generator
from wbctool_training.recipe_files import load_recipe
from wbctool_training.srgan_losses import ContentLoss, adversarial_loss, discriminator_loss


def test_adversarial_loss_is_minus_log_probability() -> None:
    assert float(adversarial_loss(torch.zeros(4, 1))) == pytest.approx(math.log(2))
    believed = 0.9
    logit = math.log(believed / (1 - believed))
    assert float(adversarial_loss(torch.full((3, 1), logit))) == pytest.approx(-math.log(believed), abs=1e-6)


def test_discriminator_loss_adds_both_errors() -> None:
    real, fake = torch.tensor([[math.log(4.0)]]), torch.tensor([[math.log(0.25)]])  # D = 0.8 and 0.2
    assert float(discriminator_loss(real, fake)) == pytest.approx(-math.log(0.8) - math.log(0.8), abs=1e-6)


def test_content_loss_is_zero_only_for_the_same_image() -> None:
    loss = ContentLoss(build_features(Backbone.VGG19), (3, 4))
    hr = torch.rand(1, 3, 64, 64)
    assert float(loss(hr, hr)) == 0.0
    assert float(loss(hr.flip(3), hr)) > 0.0


def test_content_loss_does_not_depend_on_the_scale_of_the_vgg_weights() -> None:
    features = build_features(Backbone.VGG19)
    hr, sr = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    plain = float(ContentLoss(features, (1, 2))(sr, hr))
    with torch.no_grad():
        for parameter in features[2].parameters():  # the second convolution; a ReLU behind it keeps a positive factor
            parameter.mul_(100)
    assert float(ContentLoss(features, (1, 2))(sr, hr)) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize(("layer", "convolutions"), [((1, 2), 2), ((3, 4), 8), ((5, 4), 16)])
def test_content_loss_uses_map_after_relu_of_layer(layer: tuple[int, int], convolutions: int) -> None:
    features = ContentLoss(build_features(Backbone.VGG19), layer).features
    assert sum(isinstance(m, nn.Conv2d) for m in features) == convolutions
    assert isinstance(features[-1], nn.ReLU)


def test_content_loss_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="VGG19 has no"):
        ContentLoss(build_features(Backbone.VGG19), (1, 3))


@pytest.mark.parametrize("term", ["content", "adversarial"])
def test_each_loss_alone_gives_every_generator_weight_a_gradient(term: str) -> None:
    torch.manual_seed(0)
    generator = Generator(blocks=2, width=8)
    hr = torch.rand(2, 3, 128, 128)
    sr = generator(interpolate(hr, scale_factor=0.25, mode="area"))
    terms = {
        "content": lambda: ContentLoss(build_features(Backbone.VGG19), (3, 4))(sr[..., :32, :32], hr[..., :32, :32]),
        "adversarial": lambda: adversarial_loss(Discriminator(width=8, hidden=16)(sr)),
    }
    terms[term]().backward()
    without = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_content_loss_freezes_vgg() -> None:
    loss = ContentLoss(build_features(Backbone.VGG19), (2, 2))
    assert not any(p.requires_grad for p in loss.parameters())


def test_compute_generator_losses_sums_weighted_terms_and_skips_weight_0() -> None:
    recipe = load_recipe("default").srgan
    hr, sr = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    content = ContentLoss(build_features(Backbone.VGG19), (1, 2))
    all_three = recipe.model_copy(update={"content_weight": 2.0, "adversarial_weight": 0.5, "pixel_weight": 3.0})
    losses = compute_generator_losses(all_three, sr, hr, content, lambda _: torch.zeros(2, 1))
    assert float(losses["adversarial"]) == pytest.approx(math.log(2))
    assert float(losses["pixel"]) == pytest.approx(float((sr - hr).abs().mean()))
    expected = 2.0 * losses["content"] + 0.5 * losses["adversarial"] + 3.0 * losses["pixel"]
    assert float(losses["generator"]) == pytest.approx(float(expected))

    pixel = recipe.model_copy(update={"content_weight": 0.0, "adversarial_weight": 0.0, "pixel_weight": 1.0})
    losses = compute_generator_losses(pixel, sr, hr, content, lambda _: pytest.fail("the discriminator was asked"))
    assert set(losses) == {"pixel", "generator"}
    assert float(losses["generator"]) == float(losses["pixel"])

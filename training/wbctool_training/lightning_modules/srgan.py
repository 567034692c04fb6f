"""The generator's LightningModules: pretraining with pixel loss (SRResNet), then adversarial training (SRGAN).

Ledig et al. 2017, arXiv 1609.04802.
"""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss
from torchmetrics.functional.image import peak_signal_noise_ratio

from wbctool_training.lightning_modules.ema import EmaModule
from wbctool_training.models.srgan import Discriminator, Generator
from wbctool_training.recipe import SrganRecipe
from wbctool_training.srgan_losses import ContentLoss, adversarial_loss, discriminator_loss

Batch = tuple[Tensor, Tensor]  # lr (N, 3, s, s), hr (N, 3, 4s, 4s), uint8


class SrresnetModule(EmaModule):
    """Pretrains a generator with the mean absolute difference of pixels.

    Args:
        recipe: Hyperparameters.
        generator: The network to train.
    """

    def __init__(self, recipe: SrganRecipe, generator: Generator) -> None:
        super().__init__()
        self.recipe = recipe
        self.init_ema(generator.to(memory_format=torch.channels_last), recipe.ema_decay)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        lr, hr = _to_unit_range(batch)
        loss = l1_loss(self.network(lr).float(), hr)
        self.log("train_l1", loss.detach(), prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        _log_psnr(self, self.average.module, batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.recipe.pretrain_lr)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.recipe.pretrain_lr, total_steps=steps, pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SrganModule(EmaModule):
    """Trains a generator with content, adversarial and pixel loss, and a discriminator against it.

    The discriminator is trained only if the adversarial loss has a weight.

    Args:
        recipe: Hyperparameters.
        generator: The pretrained network.
        discriminator: Its opponent.
        features: VGG19's convolutions with ImageNet weights, or None if the recipe has no content loss.
    """

    def __init__(
        self, recipe: SrganRecipe, generator: Generator, discriminator: Discriminator, features: nn.Sequential | None
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe = recipe
        self.init_ema(generator.to(memory_format=torch.channels_last), recipe.ema_decay)
        self.discriminator = discriminator.to(memory_format=torch.channels_last)
        self.content = None
        if features is not None:
            self.content = ContentLoss(features, recipe.content_layer).to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, _: int) -> None:
        lr, hr = _to_unit_range(batch)
        generator_optimizer, discriminator_optimizer = cast(list[Any], self.optimizers())
        sr = self.network(lr).float()

        losses = {}
        if self.recipe.adversarial_weight:
            losses["discriminator"] = discriminator_loss(self.discriminator(hr), self.discriminator(sr.detach()))
            discriminator_optimizer.zero_grad()
            self.manual_backward(losses["discriminator"])
            discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)
        losses |= compute_generator_losses(self.recipe, sr, hr, self.content, self.discriminator)
        generator_optimizer.zero_grad()
        self.manual_backward(losses["generator"])
        generator_optimizer.step()
        self.update_ema()
        self.discriminator.requires_grad_(True)
        self.log_dict({f"train_{k}": v.detach() for k, v in losses.items()}, prog_bar=True)

    def validation_step(self, batch: Batch, _: int) -> None:
        _log_psnr(self, self.average.module, batch)

    def configure_optimizers(self) -> Any:
        networks = (self.network, self.discriminator)
        return [torch.optim.Adam(n.parameters(), lr=self.recipe.gan_lr) for n in networks]


def compute_generator_losses(
    recipe: SrganRecipe, sr: Tensor, hr: Tensor, content: ContentLoss | None, discriminator: nn.Module
) -> dict[str, Tensor]:
    """Compute the generator's losses.

    Args:
        recipe: The weights; a loss of weight 0 is not computed.
        sr: (N, 3, 128, 128) float in [0, 1], super-resolved.
        hr: The same shape and range, the target.
        content: The content loss, or None.
        discriminator: The discriminator.

    Returns:
        ``content``, ``adversarial`` and ``pixel``, each if it has a weight, and ``generator``, their weighted sum
        (Ferdousi et al. 2024, equation 4; the pixel loss is an addition). All scalars.
    """
    losses: dict[str, Tensor] = {}
    if recipe.content_weight and content is not None:
        losses["content"] = content(sr, hr)
    if recipe.adversarial_weight:
        losses["adversarial"] = adversarial_loss(discriminator(sr))
    if recipe.pixel_weight:
        losses["pixel"] = l1_loss(sr, hr)
    total = sum((getattr(recipe, f"{name}_weight") * loss for name, loss in losses.items()), sr.new_zeros(()))
    return losses | {"generator": total}


def _to_unit_range(batch: Batch) -> tuple[Tensor, Tensor]:
    """Convert lr and hr from uint8 to float in [0, 1]."""
    lr, hr = ((part.float() / 255).contiguous(memory_format=torch.channels_last) for part in batch)
    return lr, hr


def _log_psnr(module: L.LightningModule, generator: nn.Module, batch: Batch) -> None:
    """Log the mean of the images' peak signal-to-noise ratios, in decibels."""
    lr, hr = _to_unit_range(batch)
    psnr_db = peak_signal_noise_ratio(generator(lr).float(), hr, data_range=(0.0, 1.0), dim=(1, 2, 3))
    module.log("val_psnr_db", psnr_db, prog_bar=True)

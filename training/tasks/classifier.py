"""Training the classifier."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric

from training.models.backbones import Backbone, frozen_layers
from training.models.classifier import CellClassifier
from training.models.white import WhiteBalance
from training.recipe import ClassifierRecipe
from training.tasks.averaging import AveragingTask
from training.weights import IMAGENET_MEAN, IMAGENET_STD

Batch = tuple[Tensor, Tensor]
WeighedBatch = tuple[Tensor, Tensor, Tensor]


class Normalised(nn.Module):
    """A network behind white balance and ImageNet's normalisation. rgb: [B, 3, H, W] uint8, or float in [0, 255]."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: CellClassifier, white_balance: bool) -> None:
        super().__init__()
        self.network = network
        self.balance = WhiteBalance() if white_balance else nn.Identity()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255)

    def parts(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, penultimate features, last convolution's map)."""
        unit = ((self.balance(rgb.float()) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.network.parts(unit)

    def forward(self, rgb: Tensor) -> Tensor:
        return self.parts(rgb)[0]


class ClassifierTask(AveragingTask):
    """average is validated and exported.

    start: the backbone's convolutions with ImageNet weights, or the weights of all of ``Normalised``; None: random.
    """

    def __init__(
        self,
        recipe: ClassifierRecipe,
        classes: int,
        start: nn.Sequential | dict[str, Tensor] | None,
        backbone: Backbone = Backbone.VGG19,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        classifier = CellClassifier(classes, recipe.dropout, backbone)
        network = Normalised(classifier, recipe.white_balance)
        if isinstance(start, nn.Sequential):
            classifier.features.load_state_dict(start.state_dict(), strict=True)
        elif start is not None:
            network.load_state_dict(start, strict=True)
        if start is not None:  # random convolutions would be of no use unless they learn
            classifier.features[: frozen_layers(backbone, recipe.frozen_blocks)].requires_grad_(False)
        self.keep_average(network.to(memory_format=torch.channels_last), recipe.ema_decay)
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        rgb, wanted = batch
        logits = self.network(rgb).float()
        loss = cross_entropy(logits, wanted, label_smoothing=self.recipe.label_smoothing)
        accuracy = (logits.argmax(dim=1) == wanted).float().mean()
        self.log_dict({"train_loss": loss.detach(), "train_accuracy": accuracy}, prog_bar=True, on_epoch=True)
        return loss

    def validation_step(self, batch: WeighedBatch, _: int) -> None:
        rgb, wanted, weights = batch
        logits = self.average(rgb).float()
        self.val_loss.update(cross_entropy(logits, wanted, reduction="none"), weights)
        self.val_accuracy.update((logits.argmax(dim=1) == wanted).float(), weights)
        self.log_dict({"val_loss": self.val_loss, "val_accuracy": self.val_accuracy}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        part = self.recipe
        classifier = cast(Normalised, self.network).network
        groups = [
            {"params": [p for p in classifier.features.parameters() if p.requires_grad], "lr": part.features_lr},
            {"params": [*classifier.dense.parameters(), *classifier.output.parameters()], "lr": part.head_lr},
        ]
        kind = torch.optim.AdamW if part.optimiser == "adamw" else torch.optim.Adam
        optimiser = kind([g for g in groups if g["params"]], weight_decay=part.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        if part.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.2, patience=2)
            # By an epoch's steps and not by the epoch, whose checkpoint Lightning would save before the plateau's step.
            epoch = {"interval": "step", "frequency": steps // (self.trainer.max_epochs or 1)}
            return {"optimizer": optimiser, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", **epoch}}
        peaks = [g["lr"] for g in optimiser.param_groups]
        cosine = torch.optim.lr_scheduler.OneCycleLR(optimiser, peaks, total_steps=steps, pct_start=0.05)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

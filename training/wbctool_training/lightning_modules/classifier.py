"""The classifier's LightningModule."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric

from wbctool_training.lightning_modules.ema import EmaModule
from wbctool_training.models.backbones import Backbone, count_frozen_layers
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.recipe import ClassifierRecipe

Batch = tuple[Tensor, Tensor]  # rgb (N, 3, H, W) uint8, class index (N,)
WeightedBatch = tuple[Tensor, Tensor, Tensor]  # also each cell's weight (N,)


class ClassifierModule(EmaModule):
    """Trains a NormalizedClassifier with cross-entropy; validates its average with weighted cells.

    Args:
        recipe: Hyperparameters.
        n_outputs: Number of outputs: classes, then unknown kinds.
        init: The backbone's convolutions with ImageNet weights, or the weights of a whole NormalizedClassifier; None
            starts from random weights.
        backbone: Which network.
    """

    def __init__(
        self,
        recipe: ClassifierRecipe,
        n_outputs: int,
        init: nn.Sequential | dict[str, Tensor] | None,
        backbone: Backbone = Backbone.VGG19,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        classifier = CellClassifier(n_outputs, recipe.dropout, backbone)
        network = NormalizedClassifier(classifier, recipe.white_balance)
        if isinstance(init, nn.Sequential):
            classifier.features.load_state_dict(init.state_dict(), strict=True)
        elif init is not None:
            network.load_state_dict(init, strict=True)
        if init is not None:  # random convolutions would be useless if they were frozen
            classifier.features[: count_frozen_layers(backbone, recipe.frozen_blocks)].requires_grad_(False)
        self.init_ema(network.to(memory_format=torch.channels_last), recipe.ema_decay)
        self.val_loss, self.val_accuracy = MeanMetric(), MeanMetric()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        rgb, y_true = batch
        logits = self.network(rgb).float()
        loss = cross_entropy(logits, y_true, label_smoothing=self.recipe.label_smoothing)
        accuracy = (logits.argmax(dim=1) == y_true).float().mean()
        self.log_dict({"train_loss": loss.detach(), "train_accuracy": accuracy}, prog_bar=True, on_epoch=True)
        return loss

    def validation_step(self, batch: WeightedBatch, _: int) -> None:
        rgb, y_true, weights = batch
        logits = self.average(rgb).float()
        self.val_loss.update(cross_entropy(logits, y_true, reduction="none"), weights)
        self.val_accuracy.update((logits.argmax(dim=1) == y_true).float(), weights)
        self.log_dict({"val_loss": self.val_loss, "val_accuracy": self.val_accuracy}, prog_bar=True)

    def configure_optimizers(self) -> Any:
        config = self.recipe
        classifier = cast(NormalizedClassifier, self.network).network
        groups = [
            {"params": [p for p in classifier.features.parameters() if p.requires_grad], "lr": config.features_lr},
            {"params": [*classifier.dense.parameters(), *classifier.output.parameters()], "lr": config.head_lr},
        ]
        optimizer_class = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        optimizer = optimizer_class([g for g in groups if g["params"]], weight_decay=config.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        if config.schedule == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.2, patience=2)
            # By steps, because Lightning saves an epoch's checkpoint before a scheduler that steps by epochs.
            epoch = {"interval": "step", "frequency": steps // (self.trainer.max_epochs or 1)}
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", **epoch}}
        max_lrs = [g["lr"] for g in optimizer.param_groups]
        cosine = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lrs, total_steps=steps, pct_start=0.05)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cosine, "interval": "step"}}

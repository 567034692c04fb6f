"""Training the detector: CenterNet's focal loss on the heat maps, GIoU on the boxes at the peaks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from training.models.detector import STRIDE, CellDetector
from training.recipe import DetectorRecipe
from training.tasks.averaging import AveragingTask

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class DetectorTask(AveragingTask):
    """network is trained; average, its exponential moving average, is validated and exported."""

    def __init__(self, recipe: DetectorRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.keep_average(CellDetector(), recipe.ema_decay)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        losses = detector_losses(self.network, batch)
        self.log_dict({f"train_{k}": v.detach() for k, v in losses.items()}, prog_bar=True)
        return losses["heat"] + losses["sides"]

    def validation_step(self, batch: Batch, _: int) -> None:
        losses = detector_losses(self.average.module, batch)
        self.log_dict({f"val_{k}": v for k, v in losses.items()}, prog_bar=True)
        self.log("val_loss", losses["heat"] + losses["sides"])

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.recipe.lr, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def detector_losses(network: CellDetector | Any, batch: Batch) -> dict[str, Tensor]:
    """heat: penalty-reduced focal loss (CenterNet, eq. 1), a positive's share. sides: 1 - GIoU, mean over positives."""
    rgb, heat, weight, sides, positive = batch
    logits, predicted = network.forward_logits(rgb.float() / 255)
    likely = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = heat >= 0.999
    hit = -((1 - likely) ** 2) * likely.log() * peak
    miss = -((1 - heat) ** 4) * likely**2 * (1 - likely).log() * ~peak
    focal = ((hit + miss) * weight).sum() / peak.sum().clamp(min=1)
    where = positive.nonzero(as_tuple=True)
    middle = torch.stack([where[2], where[1]], dim=1).float().add(0.5).mul(STRIDE)
    boxes = _boxes(predicted[where[0], :, where[1], where[2]], middle)
    wanted = _boxes(sides[where[0], :, where[1], where[2]], middle)
    overlap = generalized_box_iou_loss(boxes, wanted, reduction="sum") / max(len(middle), 1)
    return {"heat": focal, "sides": overlap}


def _boxes(sides: Tensor, middle: Tensor) -> Tensor:
    return torch.cat([middle - sides[:, :2], middle + sides[:, 2:]], dim=1)

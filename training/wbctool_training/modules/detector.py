"""Training the detector: CenterNet's focal loss on the heat maps, GIoU on the boxes at the peaks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from wbctool_training.models.detector import STRIDE, CellDetector
from wbctool_training.modules.ema import EmaModule
from wbctool_training.recipe import DetectorRecipe

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class DetectorModule(EmaModule):
    """network is trained; average, its exponential moving average, is validated and exported."""

    def __init__(self, recipe: DetectorRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.init_ema(CellDetector(), recipe.ema_decay)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        losses = compute_detector_losses(self.network, batch)
        self.log_dict({f"train_{k}": v.detach() for k, v in losses.items()}, prog_bar=True)
        return losses["heat"] + losses["sides"]

    def validation_step(self, batch: Batch, _: int) -> None:
        losses = compute_detector_losses(self.average.module, batch)
        self.log_dict({f"val_{k}": v for k, v in losses.items()}, prog_bar=True)
        self.log("val_loss", losses["heat"] + losses["sides"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.recipe.lr, total_steps=steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def compute_detector_losses(network: CellDetector | Any, batch: Batch) -> dict[str, Tensor]:
    """heat: penalty-reduced focal loss (CenterNet, eq. 1), a positive's share. sides: 1 - GIoU, mean over positives."""
    rgb, heat, weight, sides, positive = batch
    logits, predicted_sides = network.forward_logits(rgb.float() / 255)
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    peak = heat >= 0.999
    positive_loss = -((1 - probability) ** 2) * probability.log() * peak
    negative_loss = -((1 - heat) ** 4) * probability**2 * (1 - probability).log() * ~peak
    focal_loss = ((positive_loss + negative_loss) * weight).sum() / peak.sum().clamp(min=1)
    indices = positive.nonzero(as_tuple=True)
    centers = torch.stack([indices[2], indices[1]], dim=1).float().add(0.5).mul(STRIDE)
    predicted_boxes = _to_boxes(predicted_sides[indices[0], :, indices[1], indices[2]], centers)
    target_boxes = _to_boxes(sides[indices[0], :, indices[1], indices[2]], centers)
    giou_loss = generalized_box_iou_loss(predicted_boxes, target_boxes, reduction="sum") / max(len(centers), 1)
    return {"heat": focal_loss, "sides": giou_loss}


def _to_boxes(sides: Tensor, centers: Tensor) -> Tensor:
    return torch.cat([centers - sides[:, :2], centers + sides[:, 2:]], dim=1)

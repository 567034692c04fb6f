"""The detector's LightningModule: focal loss on the heat maps, generalized IoU on the boxes at the peaks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from wbctool_training.lightning_modules.ema import EmaModule
from wbctool_training.models.detector import STRIDE, CellDetector
from wbctool_training.recipe import DetectorRecipe

Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # items of DetectionDataset, stacked


class DetectorModule(EmaModule):
    """Trains a CellDetector.

    Args:
        recipe: Hyperparameters.
        detector: The network to train.
    """

    def __init__(self, recipe: DetectorRecipe, detector: CellDetector) -> None:
        super().__init__()
        self.recipe = recipe
        self.init_ema(detector, recipe.ema_decay)

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
    """Compute both losses of the detector.

    Args:
        network: The detector, or anything with its ``forward_logits``.
        batch: rgb (N, 3, S, S) uint8, then the targets of DetectionTargets with a batch axis in front.

    Returns:
        heat: The penalty-reduced focal loss, divided by the number of peaks. sides: 1 - GIoU, averaged over the
        locations that have a box. Both scalars.

    References:
        Focal loss: Zhou et al. 2019, arXiv 1904.07850, equation 1. GIoU: Rezatofighi et al. 2019, arXiv 1902.09630.
    """
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
    """Convert distances to the sides (n, 4) at centers (n, 2) to corners x0, y0, x1, y1 (n, 4)."""
    return torch.cat([centers - sides[:, :2], centers + sides[:, 2:]], dim=1)

"""The generators against bicubic enlargement, on cells reduced as the paper reduces them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.cards import GeneratorCard
from wbctool.lab.progress import Progress
from wbctool.labels import CellClass
from wbctool.onnx_model import Models, OnnxModel
from wbctool.records import Crop
from wbctool.stages.classify import classify_cells
from wbctool.stages.upscale import PREPARED_PX, resize_square

Rgb = NDArray[np.uint8]

SCALE = 4
CLEAN_SIGMA_PX = 1.0  # of the Gaussian before the reduction by area, in pixels of the large image


@dataclass(frozen=True, slots=True)
class SuperResolutionRow:
    """One way of bringing 32-pixel cells to 128. accuracy: the classifier's."""

    origin: str
    way: str
    cells: int
    psnr_db: float
    ssim: float
    accuracy: float


def reduce(hr: Rgb, sigma_px: float = CLEAN_SIGMA_PX) -> Rgb:
    """hr (4h, 4w, 3) uint8 -> lr (h, w, 3) uint8: Gaussian, then reduced by area (the paper: Gaussian-filtered, ÷4)."""
    blurred = cv2.GaussianBlur(hr, (0, 0), sigma_px)
    size = hr.shape[1] // SCALE, hr.shape[0] // SCALE
    return cv2.resize(blurred, size, interpolation=cv2.INTER_AREA).astype(np.uint8)


def compare_generators(
    origin: str,
    crops: list[Crop],
    labels: list[CellClass],
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    limit: int,
    progress: Progress,
) -> list[SuperResolutionRow]:
    """Cells reduced to 32 pixels and brought back to 128 in each way; ``original`` is the cell unreduced.

    Only cells whose crop measures 128 pixels or more take part: a smaller one has no true image at 128 to compare with.
    """
    sharp = [i for i, crop in enumerate(crops) if crop.side_px >= PREPARED_PX]
    sharp = sharp[:: max(1, len(sharp) // limit)][:limit] if limit else []
    if not sharp:
        return []
    hr = np.stack([resize_square(crops[i].rgb, PREPARED_PX) for i in sharp])
    lr = np.stack([reduce(image) for image in hr])
    wanted = [labels[i] for i in sharp]
    bicubic = np.stack([cv2.resize(i, (PREPARED_PX, PREPARED_PX), interpolation=cv2.INTER_CUBIC) for i in lr])
    ways: list[tuple[str, Rgb]] = [("original", hr), ("bicubic", bicubic.astype(np.uint8))]
    enhancing = progress(generators, len(generators), f"{origin}: super-resolving")
    ways += [(generator.card.name, generator.run(lr)[0]) for generator in enhancing]
    return [_way(origin, way, rgb, hr, wanted, models) for way, rgb in ways]


def _way(origin: str, way: str, rgb: Rgb, hr: Rgb, wanted: Sequence[CellClass], models: Models) -> SuperResolutionRow:
    from skimage.metrics import structural_similarity

    error = ((rgb.astype(np.float64) - hr) ** 2).mean(axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-3))
    ssim = [structural_similarity(a, b, channel_axis=2) for a, b in zip(rgb, hr, strict=True)]
    predictions = classify_cells(rgb, models.classifier)
    right = [p.label is label for p, label in zip(predictions, wanted, strict=True)]
    return SuperResolutionRow(origin, way, len(hr), float(psnr.mean()), float(np.mean(ssim)), float(np.mean(right)))

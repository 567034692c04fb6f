"""The generators against bicubic enlargement, on cells reduced to the pixels that a low-power scan gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import evenly_spaced
from wbctool.enums import SuperResolve
from wbctool.evaluation.classification import LabelledCrop
from wbctool.evaluation.metrics import McNemarResult, mcnemar_by_group
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import Models
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.classify import classify_cells
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX, preprocess_crops
from wbctool.types.cells import Crop
from wbctool.types.progress import Progress

Rgb = NDArray[np.uint8]

SCALE = 4
DEGRADATION_SIGMA_PX = 1.0  # of the Gaussian before the reduction by area to a quarter, in pixels of the large image
SIDES_PX = (24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class SuperResolutionRow:
    """One way of bringing cells of longer_side_px pixels to 128. accuracy: the classifier's.

    vs_bicubic: this way and bicubic, by source; None for bicubic itself and for the cells unreduced.
    """

    dataset: str
    side_px: int
    method: str
    cells: int
    psnr_db: float
    ssim: float
    accuracy: float
    vs_bicubic: McNemarResult | None


def degrade(hr: Rgb, sigma_px: float = DEGRADATION_SIGMA_PX) -> Rgb:
    """hr (4h, 4w, 3) uint8 -> lr (h, w, 3) uint8: Gaussian, then reduced by area (the paper: Gaussian-filtered, ÷4)."""
    return degrade_to(hr, hr.shape[1] // SCALE, hr.shape[0] // SCALE, sigma_px)


def degrade_to(hr: Rgb, width: int, height: int, sigma_px: float) -> Rgb:
    """hr (H, W, 3) uint8 -> (height, width, 3) uint8: Gaussian, then reduced by area."""
    blurred = cv2.GaussianBlur(hr, (0, 0), sigma_px)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def compare_generators(
    dataset: str,
    cells: Sequence[LabelledCrop],
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    limit: int,
    progress: Progress,
) -> list[SuperResolutionRow]:
    """Cells reduced to each of SIDES_PX and brought back to 128 in each way; ``original`` is the cell unreduced.

    The generators are given what `--super-resolve auto` would give them. Only cells whose crop measures 128 pixels or
    more take part: a smaller one has no true image at 128 to compare with.
    """
    eligible = evenly_spaced([cell for cell in cells if cell.crop.side_px >= CLASSIFIER_INPUT_PX], limit)
    if not eligible:
        return []
    hr = np.stack([resize_square(cell.crop.rgb, CLASSIFIER_INPUT_PX) for cell in eligible])
    comparison = _Comparison(dataset, eligible, hr, models)
    rows = [comparison.make_row(CLASSIFIER_INPUT_PX, "original", hr)]
    for side in progress(SIDES_PX, len(SIDES_PX), f"{dataset}: super-resolving"):
        sigma_px = DEGRADATION_SIGMA_PX * CLASSIFIER_INPUT_PX / (SCALE * side)
        small = [Crop(degrade_to(image, side, side, sigma_px)) for image in hr]
        bicubic = np.stack([resize_square(crop.rgb, CLASSIFIER_INPUT_PX) for crop in small])
        compare = comparison.make_paired_test(bicubic)
        rows.append(comparison.make_row(side, "bicubic", bicubic))
        for generator in generators:
            super_resolved = preprocess_crops(small, generator, SuperResolve.AUTO).rgb
            rows.append(comparison.make_row(side, generator.card.name, super_resolved, compare))
    return rows


@dataclass(frozen=True, slots=True)
class _Comparison:
    dataset: str
    cells: Sequence[LabelledCrop]
    hr: Rgb
    models: Models

    def make_row(
        self, side_px: int, method: str, rgb: Rgb, compare: Callable[[NDArray[np.bool_]], McNemarResult] | None = None
    ) -> SuperResolutionRow:
        from skimage.metrics import structural_similarity

        error = ((rgb.astype(np.float64) - self.hr) ** 2).mean(axis=(1, 2, 3))
        psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-3))
        ssim = [structural_similarity(a, b, channel_axis=2) for a, b in zip(rgb, self.hr, strict=True)]
        correct = self._is_correct(rgb)
        return SuperResolutionRow(
            dataset=self.dataset,
            side_px=side_px,
            method=method,
            cells=len(rgb),
            psnr_db=float(psnr.mean()),
            ssim=float(np.mean(ssim)),
            accuracy=float(correct.mean()),
            vs_bicubic=compare(correct) if compare else None,
        )

    def make_paired_test(self, bicubic: Rgb) -> Callable[[NDArray[np.bool_]], McNemarResult]:
        """A paired test of whatever it is given against bicubic."""
        bicubic_correct, groups = self._is_correct(bicubic), [cell.image.group for cell in self.cells]
        return lambda other: mcnemar_by_group(other, bicubic_correct, groups)

    def _is_correct(self, rgb: Rgb) -> NDArray[np.bool_]:
        predictions = classify_cells(rgb, self.models.classifier)
        return np.array([p.label is c.image.label for p, c in zip(predictions, self.cells, strict=True)])

"""The generators against bicubic enlargement, on cells reduced to the pixels that a low-power scan gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.cards import GeneratorCard
from wbctool.choices import SuperResolve
from wbctool.lab.classification import LabelledCrop
from wbctool.lab.metrics import PairedTest, paired_test
from wbctool.lab.progress import Progress
from wbctool.lab.sampling import spread
from wbctool.models import Models
from wbctool.onnx_model import OnnxModel
from wbctool.records import Crop
from wbctool.stages.classify import classify_cells
from wbctool.stages.upscale import PREPARED_PX, prepare_crops, resize_square

Rgb = NDArray[np.uint8]

SCALE = 4
CLEAN_SIGMA_PX = 1.0  # of the Gaussian before the reduction by area to a quarter, in pixels of the large image
SIDES_PX = (24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class SuperResolutionRow:
    """One way of bringing cells of side_px pixels to 128. accuracy: the classifier's.

    against_bicubic: this way and bicubic, by source; None for bicubic itself and for the cells unreduced.
    """

    origin: str
    side_px: int
    way: str
    cells: int
    psnr_db: float
    ssim: float
    accuracy: float
    against_bicubic: PairedTest | None


def reduce(hr: Rgb, sigma_px: float = CLEAN_SIGMA_PX) -> Rgb:
    """hr (4h, 4w, 3) uint8 -> lr (h, w, 3) uint8: Gaussian, then reduced by area (the paper: Gaussian-filtered, ÷4)."""
    return reduce_to(hr, hr.shape[1] // SCALE, hr.shape[0] // SCALE, sigma_px)


def reduce_to(hr: Rgb, width: int, height: int, sigma_px: float) -> Rgb:
    """hr (H, W, 3) uint8 -> (height, width, 3) uint8: Gaussian, then reduced by area."""
    blurred = cv2.GaussianBlur(hr, (0, 0), sigma_px)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def compare_generators(
    origin: str,
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
    sharp = spread([cell for cell in cells if cell.crop.side_px >= PREPARED_PX], limit)
    if not sharp:
        return []
    hr = np.stack([resize_square(cell.crop.rgb, PREPARED_PX) for cell in sharp])
    trial = _Trial(origin, sharp, hr, models)
    rows = [trial.row(PREPARED_PX, "original", hr)]
    for side in progress(SIDES_PX, len(SIDES_PX), f"{origin}: super-resolving"):
        sigma_px = CLEAN_SIGMA_PX * PREPARED_PX / (SCALE * side)
        small = [Crop(reduce_to(image, side, side, sigma_px)) for image in hr]
        bicubic = np.stack([resize_square(crop.rgb, PREPARED_PX) for crop in small])
        compare = trial.beside(bicubic)
        rows.append(trial.row(side, "bicubic", bicubic))
        for generator in generators:
            enhanced = prepare_crops(small, generator, SuperResolve.AUTO).rgb
            rows.append(trial.row(side, generator.card.name, enhanced, compare))
    return rows


@dataclass(frozen=True, slots=True)
class _Trial:
    origin: str
    cells: Sequence[LabelledCrop]
    hr: Rgb
    models: Models

    def row(
        self, side_px: int, way: str, rgb: Rgb, compare: Callable[[NDArray[np.bool_]], PairedTest] | None = None
    ) -> SuperResolutionRow:
        from skimage.metrics import structural_similarity

        error = ((rgb.astype(np.float64) - self.hr) ** 2).mean(axis=(1, 2, 3))
        psnr = 10 * np.log10(255**2 / np.maximum(error, 1e-3))
        ssim = [structural_similarity(a, b, channel_axis=2) for a, b in zip(rgb, self.hr, strict=True)]
        right = self._right(rgb)
        return SuperResolutionRow(
            origin=self.origin,
            side_px=side_px,
            way=way,
            cells=len(rgb),
            psnr_db=float(psnr.mean()),
            ssim=float(np.mean(ssim)),
            accuracy=float(right.mean()),
            against_bicubic=compare(right) if compare else None,
        )

    def beside(self, bicubic: Rgb) -> Callable[[NDArray[np.bool_]], PairedTest]:
        """A paired test of whatever it is given against bicubic."""
        right, sources = self._right(bicubic), [cell.image.source for cell in self.cells]
        return lambda other: paired_test(other, right, sources)

    def _right(self, rgb: Rgb) -> NDArray[np.bool_]:
        predictions = classify_cells(rgb, self.models.classifier)
        return np.array([p.label is c.image.label for p, c in zip(predictions, self.cells, strict=True)])

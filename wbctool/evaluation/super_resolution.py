"""Comparison of the generators with bicubic enlargement, on cells reduced to the size that a low-power scan gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import evenly_spaced
from wbctool.enums import SuperResolve
from wbctool.evaluation.classification import LabelledCrop
from wbctool.evaluation.metrics import McNemarResult, mcnemar_by_group, psnr_db
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import Models
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.classify import classify_cells
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX, preprocess_crops
from wbctool.types.arrays import Rgb
from wbctool.types.cells import Crop
from wbctool.types.progress import Progress

SCALE = 4
DEGRADATION_SIGMA_PX = 1.0  # of the Gaussian before a reduction to a quarter, in pixels of the large image
SIDES_PX = (24, 32, 48, 64)


@dataclass(frozen=True, slots=True)
class SuperResolutionRow:
    """One method to enlarge reduced cells to 128×128 pixels.

    Attributes:
        dataset: Name of the data set.
        side_px: Side of the reduced cells, in pixels.
        method: ``bicubic``, the name of a generator, or ``original`` for cells that were not reduced.
        cells: Number of cells.
        psnr_db: Mean peak signal-to-noise ratio of the cells, in decibels, at most 100.
        ssim: Mean structural similarity (Wang et al. 2004, IEEE Trans Image Process 13:600).
        accuracy: Accuracy of the classifier on the enlarged cells, in [0, 1].
        vs_bicubic: Comparison with bicubic enlargement by group; None for ``bicubic`` and ``original``.
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
    """Blur and reduce an image to a quarter of its size, as Ferdousi et al. 2024 did for training.

    Args:
        hr: (4h, 4w, 3) uint8 RGB.
        sigma_px: Sigma of the Gaussian, in pixels of ``hr``.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    return degrade_to(hr, hr.shape[1] // SCALE, hr.shape[0] // SCALE, sigma_px)


def degrade_to(hr: Rgb, width: int, height: int, sigma_px: float) -> Rgb:
    """Blur an image with a Gaussian and reduce it by area.

    Args:
        hr: (H, W, 3) uint8 RGB.
        width: Width of the result, in pixels.
        height: Height of the result, in pixels.
        sigma_px: Sigma of the Gaussian, in pixels of ``hr``.

    Returns:
        (height, width, 3) uint8 RGB.
    """
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
    """Reduce cells to each of SIDES_PX, and enlarge them to 128×128 pixels by each method.

    The generators get the input that `--super-resolve auto` would give them. Only cells whose crop measures at least
    128 pixels take part: a smaller one has no true image of that size to compare with.

    Args:
        dataset: Name of the data set.
        cells: Its labeled cells.
        models: The classifier that measures the accuracy.
        generators: The generators to compare.
        limit: Maximum number of cells.
        progress: Wraps the sides.

    Returns:
        Rows in order of side and method, ``original`` first; empty if no cell is large enough.
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
    """The cells of one data set at full size, with which enlarged cells are compared.

    Attributes:
        dataset: The name of the data set.
        cells: The cells.
        hr: (N, 128, 128, 3) uint8 RGB, the cells at full size.
        models: The models whose classifier judges the cells.
    """

    dataset: str
    cells: Sequence[LabelledCrop]
    hr: Rgb
    models: Models

    def make_row(
        self, side_px: int, method: str, rgb: Rgb, compare: Callable[[NDArray[np.bool_]], McNemarResult] | None = None
    ) -> SuperResolutionRow:
        """Compare enlarged cells (N, 128, 128, 3) with the true ones."""
        from skimage.metrics import structural_similarity

        psnr = [psnr_db([a], [b]) for a, b in zip(rgb, self.hr, strict=True)]
        ssim = [structural_similarity(a, b, channel_axis=2) for a, b in zip(rgb, self.hr, strict=True)]
        correct = self._is_correct(rgb)
        return SuperResolutionRow(
            dataset=self.dataset,
            side_px=side_px,
            method=method,
            cells=len(rgb),
            psnr_db=float(np.mean(psnr)),
            ssim=float(np.mean(ssim)),
            accuracy=float(correct.mean()),
            vs_bicubic=compare(correct) if compare else None,
        )

    def make_paired_test(self, bicubic: Rgb) -> Callable[[NDArray[np.bool_]], McNemarResult]:
        """Return a function that compares another method, by whether it is correct, with bicubic enlargement."""
        bicubic_correct, groups = self._is_correct(bicubic), [cell.image.group for cell in self.cells]
        return lambda other: mcnemar_by_group(other, bicubic_correct, groups)

    def _is_correct(self, rgb: Rgb) -> NDArray[np.bool_]:
        """Return which of the enlarged cells, (N, 128, 128, 3), the classifier gives their true class: (N,) bool."""
        predictions = classify_cells(rgb, self.models.classifier)
        return np.array([p.label is c.image.label for p, c in zip(predictions, self.cells, strict=True)])

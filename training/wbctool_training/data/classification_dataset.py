"""The classifier's datasets: cells cropped as in `wbctool run`, and augmented for training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from wbctool.imaging.resize import resize_square
from wbctool.labels import CellClass, UnknownKind
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool_training.data.augment import (
    affine_matrix,
    color_jitter,
    degrade_optics,
    downscale_upscale,
    random_dihedral,
    random_stain,
    to_tensor,
)
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.data.laboratories import laboratory_balanced_weights
from wbctool_training.data.sampler import BalancedSampler
from wbctool_training.data.stain_transfer import StainBank, transfer_stain

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb

_SMALL_CELL_PROB = 0.3  # of showing a cell with the 24 to 80 pixels of a low-power scan


class TrainDataset(Dataset[tuple[Tensor, int]]):
    """Randomly sampled and augmented cells.

    Items: rgb (3, 128, 128) uint8 and the index of the output. An item depends on the seed and its index alone.

    Args:
        cells: Labeled cells; sampled by BalancedSampler.
        outputs: The classes and unknown kinds, in the order of the classifier's outputs.
        margin: Side of the crop, relative to the box.
        augment: ``paper`` uses :func:`paper_augmentation`; ``strong`` varies crop, resolution, orientation, stain,
            color and optics.
        seed: The seed of all random numbers.
        stain_bank: Stains for :func:`transfer_stain`, or None.
        stain_transfer_prob: Probability of a transferred stain (strong only).
        stain_jitter_prob: Probability of a random stain (strong only).
    """

    def __init__(
        self,
        cells: Sequence[CellRef],
        outputs: Sequence[CellClass | UnknownKind],
        margin: float,
        augment: Literal["paper", "strong"],
        seed: int,
        stain_bank: StainBank | None = None,
        stain_transfer_prob: float = 0.0,
        stain_jitter_prob: float = 0.0,
    ) -> None:
        self._sampler = BalancedSampler(cells)
        self._index = {label: index for index, label in enumerate(outputs)}
        self._margin, self._augment, self._seed = margin, augment, seed
        self._stain_bank = stain_bank
        self._stain_transfer_prob, self._stain_jitter_prob = stain_transfer_prob, stain_jitter_prob

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng((self._seed, index))
        cell = self._sampler(rng)
        assert cell.label is not None
        if self._augment == "paper":
            rgb = paper_augmentation(resize_square(crop_cell(cell, self._margin), CLASSIFIER_INPUT_PX), rng)
        else:
            rgb = self._augment_strongly(resize_square(crop_cell(cell, self._margin, rng), CLASSIFIER_INPUT_PX), rng)
        return to_tensor(rgb), self._index[cell.label]

    def _augment_strongly(self, rgb: Rgb, rng: Generator) -> Rgb:
        """Vary resolution, orientation, stain, color and optics."""
        if rng.random() < _SMALL_CELL_PROB:
            rgb = downscale_upscale(rgb, rng.uniform(24, 80) / CLASSIFIER_INPUT_PX, rng)
        rgb = _rotate_randomly(random_dihedral(rgb, rng), rng)
        if self._stain_bank is not None and rng.random() < self._stain_transfer_prob:
            rgb = transfer_stain(rgb, self._stain_bank.sample(rng), rng.uniform(0.4, 1.0))
        if rng.random() < self._stain_jitter_prob:
            rgb = random_stain(rgb, rng)
        return degrade_optics(color_jitter(rgb, rng, 1.2), rng)


class EvalDataset(Dataset[tuple[Tensor, int, float]]):
    """Every cell once, without augmentation, prepared as in `wbctool run --super-resolve never`.

    Items: rgb (3, 128, 128) uint8, the index of the output, the cell's weight (:func:`laboratory_balanced_weights`).

    Args:
        cells: Labeled cells.
        outputs: The classes and unknown kinds, in the order of the classifier's outputs.
        margin: Side of the crop, relative to the box.
    """

    def __init__(self, cells: Sequence[CellRef], outputs: Sequence[CellClass | UnknownKind], margin: float) -> None:
        self._cells, self._margin, self._weights = cells, margin, laboratory_balanced_weights(cells)
        self._index = {label: index for index, label in enumerate(outputs)}

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> tuple[Tensor, int, float]:
        cell = self._cells[index]
        assert cell.label is not None
        rgb = resize_square(crop_cell(cell, self._margin), CLASSIFIER_INPUT_PX)
        return to_tensor(rgb), self._index[cell.label], float(self._weights[index])


def paper_augmentation(rgb: Rgb, rng: Generator) -> Rgb:
    """Apply the paper's augmentation: rotation 15°, shifts 0.1, shear 0.2, zoom 0.2, horizontal flip; black fill.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        rng: Random numbers.

    Returns:
        The same shape.

    References:
        Ferdousi et al. 2024, doi 10.1016/j.teler.2024.100163.
    """
    height, width = rgb.shape[:2]
    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) * rng.uniform(0.8, 1.2)
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    center = np.array([width, height]) / 2
    offset = center - linear @ center + rng.uniform(-0.1, 0.1, 2) * (width, height)
    return cv2.warpAffine(rgb, affine_matrix(linear, offset), (width, height)).astype(np.uint8)


def _rotate_randomly(rgb: Rgb, rng: Generator) -> Rgb:
    """Rotate and shear by up to 45° with probability 1/2; the corners are filled by reflection."""
    if rng.random() < 0.5:
        return rgb
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-45, 45)), 1.0)
    matrix = matrix + np.hstack([rng.normal(0, 0.05, (2, 2)), np.zeros((2, 1))])
    return cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101).astype(np.uint8)

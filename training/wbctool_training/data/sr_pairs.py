"""Pairs of low and high resolution: HR is a sharp crop, LR is HR filtered by a Gaussian and reduced by four."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import Dataset

from wbctool.evaluation.super_resolution import degrade
from wbctool.imaging.resize import resize_square
from wbctool_training.data.augment import color_jitter, compress_jpeg, random_dihedral, to_tensor
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.data.sampler import BalancedSampler
from wbctool_training.models.srgan import HR_PX, SCALE

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb


def degrade_to_lr(hr: Rgb, rng: Generator | None = None) -> Rgb:
    """Make a low-resolution image.

    Args:
        hr: (4h, 4w, 3) uint8 RGB.
        rng: Random blur and, in half of the cases, noise and JPEG compression, as in real scans; None: a fixed
            Gaussian and reduction by area only.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    lr = degrade(hr) if rng is None else degrade(hr, float(rng.uniform(0.2, 1.8)))
    if rng is None or rng.random() < 0.5:
        return lr
    noisy = lr + rng.standard_normal(lr.shape, dtype=np.float32) * np.float32(rng.uniform(0, 5))
    lr = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    return compress_jpeg(lr, int(rng.integers(60, 96))) if rng.random() < 0.5 else lr


class SuperResolutionPairs(Dataset[tuple[Tensor, Tensor]]):
    """Randomly sampled pairs of low and high resolution.

    Items: lr (3, s, s) and hr (3, 4s, 4s), uint8 RGB. An item depends on the seed and its index alone.

    Args:
        cells: Cells whose crop has at least 128 pixels, so that HR is not an enlargement.
        margin: Side of the crop, relative to the box.
        lr_px: s; below 32, the pair is a random window of the cell.
        seed: The seed of all random numbers.
        augment: Vary crop, orientation and color, and degrade LR at random; otherwise exact crops and ideal LR.
        length: Items in a validation epoch.
    """

    def __init__(
        self, cells: Sequence[CellRef], margin: float, lr_px: int, seed: int, *, augment: bool, length: int = 96
    ) -> None:
        self._sampler = BalancedSampler(cells)
        self._margin, self._lr_px, self._seed, self._augment, self._length = margin, lr_px, seed, augment, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self._seed, index))
        cell = self._sampler(rng)
        native = crop_cell(cell, self._margin, rng if self._augment else None)
        hr = resize_square(native, HR_PX)
        if self._augment:
            hr = color_jitter(random_dihedral(hr, rng), rng, 0.7)
        side = self._lr_px * SCALE
        if side < HR_PX:
            x, y = rng.integers(0, HR_PX - side + 1, 2)
            hr = np.ascontiguousarray(hr[y : y + side, x : x + side])
        lr = degrade_to_lr(hr, rng if self._augment else None)
        return to_tensor(lr), to_tensor(hr)

"""Pairs of low and high resolution: HR is a sharp crop, LR is HR Gaussian-filtered and reduced by four."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wbctool.evaluation.super_resolution import degrade
from wbctool.imaging.resize import resize_square
from wbctool_training.data.augment import color_jitter, compress_jpeg, random_dihedral
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.data.sampler import BalancedSampler
from wbctool_training.models.srgan import HR_PX, SCALE

Rgb = NDArray[np.uint8]


def degrade_to_lr(hr: Rgb, rng: Generator | None = None) -> Rgb:
    """hr: (4h, 4w, 3) uint8 -> lr: (h, w, 3) uint8.

    rng: None for the clean way (Gaussian, reduction by area); else blur of any width, and by chance noise and JPEG,
    because real low-resolution scans are not clean.
    """
    lr = degrade(hr) if rng is None else degrade(hr, float(rng.uniform(0.2, 1.8)))
    if rng is None or rng.random() < 0.5:
        return lr
    noisy = lr + rng.standard_normal(lr.shape, dtype=np.float32) * np.float32(rng.uniform(0, 5))
    lr = np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
    return compress_jpeg(lr, int(rng.integers(60, 96))) if rng.random() < 0.5 else lr


class SuperResolutionPairs(Dataset[tuple[Tensor, Tensor]]):
    """Drawn pairs: lr [3, s, s], hr [3, 4s, 4s], uint8. An item depends on seed and index alone.

    cells: those whose crop measures 128 pixels or more, so that HR is never itself an enlargement.
    lr_px: s; below 32 a window of the cell. varied: other stains and degraded LR; else clean pairs.
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
        return _to_tensor(lr), _to_tensor(hr)


def _to_tensor(rgb: Rgb) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))

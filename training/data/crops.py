"""Cells as the classifier trains on them: cut as `wbctool run` cuts them, then varied as laboratories vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.data.augment import affine, flip_and_turn, reduce_and_restore, restain, vary_optics, vary_stain
from training.data.cells import CellSample, cut_cell
from training.data.draws import BalancedDraw
from training.data.laboratories import even_weights
from training.data.stains import Stains, borrow_stain
from wbctool.labels import CellClass
from wbctool.stages.upscale import PREPARED_PX, resize_square

Rgb = NDArray[np.uint8]
_SMALL_CELLS_SHARE = 0.3  # of the draws shows a cell as a low-power scan would: 24 to 80 pixels a side


class TrainingCrops(Dataset[tuple[Tensor, int]]):
    """Drawn and varied crops: rgb [3, 128, 128] uint8, class index. An item depends on seed and index alone."""

    def __init__(
        self,
        cells: Sequence[CellSample],
        classes: Sequence[CellClass],
        margin: float,
        augment: Literal["paper", "strong"],
        seed: int,
        stains: Stains | None = None,
        borrowed_stain_share: float = 0.0,
        restained_share: float = 0.0,
    ) -> None:
        self._draw = BalancedDraw(cells)
        self._index = {label: index for index, label in enumerate(classes)}
        self._margin, self._augment, self._seed = margin, augment, seed
        self._stains, self._borrowed_share, self._restained_share = stains, borrowed_stain_share, restained_share

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rng = np.random.default_rng((self._seed, index))
        cell = self._draw(rng)
        assert cell.label is not None
        if self._augment == "paper":
            rgb = vary_as_paper(resize_square(cut_cell(cell, self._margin), PREPARED_PX), rng)
        else:
            rgb = resize_square(cut_cell(cell, self._margin, rng), PREPARED_PX)
            if rng.random() < _SMALL_CELLS_SHARE:
                rgb = reduce_and_restore(rgb, rng.uniform(24, 80) / PREPARED_PX, rng)
            rgb = _turn(flip_and_turn(rgb, rng), rng)
            if self._stains is not None and rng.random() < self._borrowed_share:
                rgb = borrow_stain(rgb, self._stains.draw(rng), rng.uniform(0.4, 1.0))
            if rng.random() < self._restained_share:
                rgb = restain(rgb, rng)
            rgb = vary_optics(vary_stain(rgb, rng, 1.2), rng)
        return _tensor(rgb), self._index[cell.label]


class PlainCrops(Dataset[tuple[Tensor, int, float]]):
    """Every cell once, unvaried, as `wbctool run --super-resolve never` would show it to the classifier.

    Items: rgb [3, 128, 128] uint8, class index, the cell's share of all (training.data.laboratories.even_weights).
    """

    def __init__(self, cells: Sequence[CellSample], classes: Sequence[CellClass], margin: float) -> None:
        self._cells, self._margin, self._weights = cells, margin, even_weights(cells)
        self._index = {label: index for index, label in enumerate(classes)}

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> tuple[Tensor, int, float]:
        cell = self._cells[index]
        assert cell.label is not None
        rgb = resize_square(cut_cell(cell, self._margin), PREPARED_PX)
        return _tensor(rgb), self._index[cell.label], float(self._weights[index])


def vary_as_paper(rgb: Rgb, rng: Generator) -> Rgb:
    """The paper's augmentation: rotation 15°, shifts 0.1, shear 0.2, zoom 0.2, horizontal flip; black fill."""
    height, width = rgb.shape[:2]
    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) * rng.uniform(0.8, 1.2)
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    centre = np.array([width, height]) / 2
    offset = centre - linear @ centre + rng.uniform(-0.1, 0.1, 2) * (width, height)
    return cv2.warpAffine(rgb, affine(linear, offset), (width, height)).astype(np.uint8)


def _turn(rgb: Rgb, rng: Generator) -> Rgb:
    """By any angle, half of the time; the corners are mirrored."""
    if rng.random() < 0.5:
        return rgb
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-45, 45)), 1.0)
    matrix = matrix + np.hstack([rng.normal(0, 0.05, (2, 2)), np.zeros((2, 1))])
    return cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101).astype(np.uint8)


def _tensor(rgb: Rgb) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))

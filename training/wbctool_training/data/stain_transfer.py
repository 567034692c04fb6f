"""The stains and lamps of the training data, by origin, for cells of one laboratory to be shown in another's colours.

Some classes come from one laboratory alone. Left in its colours they would be known by them, and every cell of a
laboratory with such colours would be called so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wbctool_training.data.cell_index import CellRef, crop_cell

_CROPS_PER_DATASET = 150  # crops an origin
_MIN_STD = 2.0  # of CIELAB's 0 to 100: flatter crops have no stain to borrow or to change


@dataclass(frozen=True, slots=True)
class StainBank:
    """tables: for each, (N, 2, 3) float32: mean and deviation of L, a, b in N of its crops."""

    tables: tuple[NDArray[np.float32], ...]

    @classmethod
    def from_cells(cls, cells: Sequence[CellRef], margin: float, seed: int) -> StainBank:
        """Of some training cells of each origin; a cell needs no label for it."""
        rng = np.random.default_rng(seed)
        tables = []
        for dataset in sorted({cell.dataset for cell in cells}):
            members = [cell for cell in cells if cell.dataset == dataset]
            indices = rng.choice(len(members), min(_CROPS_PER_DATASET, len(members)), replace=False)
            tables.append(np.stack([measure_stain(crop_cell(members[i], margin)) for i in indices]))
        return cls(tuple(tables))

    def sample(self, rng: Generator) -> NDArray[np.float32]:
        """The stain of one crop: an origin, then one of its crops, each as likely as the others."""
        table = self.tables[int(rng.integers(len(self.tables)))]
        stain: NDArray[np.float32] = table[int(rng.integers(len(table)))]
        return stain


def measure_stain(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """rgb: (H, W, 3) uint8, RGB. Returns (2, 3): mean and deviation of CIELAB's L, a, b."""
    lab = _to_lab(rgb).reshape(-1, 3)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)]).astype(np.float32)


def transfer_stain(rgb: NDArray[np.uint8], stain: NDArray[np.float32], amount: float) -> NDArray[np.uint8]:
    """rgb in another crop's colours: its mean and deviation in CIELAB (Reinhard 2001, doi 10.1109/38.946629).

    rgb: (H, W, 3) uint8, RGB. stain: (2, 3), of :func:`measure_stain`. amount: 0 changes nothing, 1 takes the stain whole.
    """
    source = measure_stain(rgb)
    mean, std = source + np.float32(amount) * (stain - source)
    scale = std / np.maximum(source[1], _MIN_STD)
    lab = (_to_lab(rgb) - source[0]) * scale.astype(np.float32) + mean.astype(np.float32)
    rgb_float = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    transferred: NDArray[np.uint8] = np.clip(rgb_float * 255 + 0.5, 0, 255).astype(np.uint8)
    return transferred


def _to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    return cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB).astype(np.float32)

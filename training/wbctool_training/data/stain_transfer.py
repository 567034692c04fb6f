"""Stain transfer: show cells of one laboratory in the colors of another.

Some classes come from a single laboratory. Without this the classifier would learn its colors instead of the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from wbctool_training.data.cell_index import CellRef, crop_cell

_CROPS_PER_DATASET = 150
_MIN_STD = 2.0  # CIELAB units; flatter crops have no stain that could be scaled


@dataclass(frozen=True, slots=True)
class StainBank:
    """The stains of the training data.

    Attributes:
        tables: One (N, 2, 3) float32 for each dataset: mean and standard deviation of L, a, b in N of its crops.
    """

    tables: tuple[NDArray[np.float32], ...]

    @classmethod
    def from_cells(cls, cells: Sequence[CellRef], margin: float, seed: int) -> StainBank:
        """Measure up to 150 random cells of each dataset.

        Args:
            cells: Training cells; they need no label.
            margin: Side of the crop, relative to the box.
            seed: The seed of the random choice.
        """
        rng = np.random.default_rng(seed)
        tables = []
        for dataset in sorted({cell.dataset for cell in cells}):
            members = [cell for cell in cells if cell.dataset == dataset]
            indices = rng.choice(len(members), min(_CROPS_PER_DATASET, len(members)), replace=False)
            tables.append(np.stack([measure_stain(crop_cell(members[i], margin)) for i in indices]))
        return cls(tuple(tables))

    def sample(self, rng: Generator) -> NDArray[np.float32]:
        """Return the stain of a random crop of a random dataset, (2, 3) float32."""
        table = self.tables[int(rng.integers(len(self.tables)))]
        stain: NDArray[np.float32] = table[int(rng.integers(len(table)))]
        return stain


def measure_stain(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure an image's stain.

    Args:
        rgb: (H, W, 3) uint8 RGB.

    Returns:
        (2, 3) float32: mean and standard deviation of CIELAB's L, a, b.
    """
    lab = _to_lab(rgb).reshape(-1, 3)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)]).astype(np.float32)


def transfer_stain(rgb: NDArray[np.uint8], stain: NDArray[np.float32], amount: float) -> NDArray[np.uint8]:
    """Give an image another crop's mean and standard deviation in CIELAB.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        stain: (2, 3), of :func:`measure_stain`.
        amount: 0 changes nothing, 1 transfers the stain fully.

    Returns:
        The same shape.

    References:
        Reinhard et al. 2001, doi 10.1109/38.946629.
    """
    own_stain = measure_stain(rgb)
    mean, std = own_stain + np.float32(amount) * (stain - own_stain)
    scale = std / np.maximum(own_stain[1], _MIN_STD)
    lab = (_to_lab(rgb) - own_stain[0]) * scale.astype(np.float32) + mean.astype(np.float32)
    rgb_float = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_LAB2RGB)
    transferred: NDArray[np.uint8] = np.clip(rgb_float * 255 + 0.5, 0, 255).astype(np.uint8)
    return transferred


def _to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert uint8 RGB to float32 CIELAB."""
    return cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB).astype(np.float32)

"""Random draws of a laboratory's labeled cells, by whole groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MEASURED_SHARE = 1 / 3  # of a laboratory's cells, which teach nothing


def draw_cells(groups: Sequence[str], size: int, seed: int, pool: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Draw whole groups at random until there are so many cells.

    Args:
        groups: The group of each cell.
        size: The number of cells; the last group may exceed it.
        seed: The seed of the random order.
        pool: (N,) bool, the cells to draw from, whole groups; None for all.

    Returns:
        (N,) bool, whether each cell is drawn.
    """
    by_group = np.array(groups)
    chosen = np.zeros(len(groups), bool)
    for group in np.random.default_rng(seed).permutation(np.unique(by_group if pool is None else by_group[pool])):
        if chosen.sum() >= size:
            break
        chosen |= by_group == group
    return chosen

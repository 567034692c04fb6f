"""Weights that balance laboratories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import HasGroup
from wbctool.datasets.laboratories import find_laboratories


def laboratory_balanced_weights(items: Sequence[HasGroup]) -> NDArray[np.float64]:
    """Weight items so that every laboratory weighs the same, in it every group, and in that every item.

    So neither a laboratory with many cells nor a cell with many copies dominates.

    Args:
        items: Images, fields or cells.

    Returns:
        (N,), sum 1.
    """
    laboratory_by_dataset = find_laboratories(items)
    keys = [(laboratory_by_dataset[item.dataset], item.group) for item in items]
    items_per_group = Counter(keys)
    groups_per_laboratory = Counter(laboratory for laboratory, _ in items_per_group)
    return np.array(
        [1 / (len(groups_per_laboratory) * groups_per_laboratory[key[0]] * items_per_group[key]) for key in keys]
    )

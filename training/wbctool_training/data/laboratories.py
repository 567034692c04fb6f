"""Datasets of one laboratory: those that share groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from wbctool.datasets.labelled import HasGroup


def find_laboratories(items: Sequence[HasGroup]) -> dict[str, str]:
    """Group datasets into laboratories: two datasets that share a group come from one laboratory.

    Args:
        items: Images, fields or cells.

    Returns:
        Each dataset's laboratory, which is named after the alphabetically first of its datasets.
    """
    disjoint_sets = DisjointSet(sorted({item.dataset for item in items}))
    first_dataset: dict[str, str] = {}
    for item in items:
        disjoint_sets.merge(item.dataset, first_dataset.setdefault(item.group, item.dataset))
    return {dataset: min(subset) for subset in disjoint_sets.subsets() for dataset in subset}


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

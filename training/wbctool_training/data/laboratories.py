"""Which data sets come from one laboratory: those that share originals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from wbctool.datasets.labelled import HasGroup


def find_laboratories(items: Sequence[HasGroup]) -> dict[str, str]:
    """Origin -> laboratory, named by the first of its origins: two data sets of one original are one laboratory's."""
    disjoint_sets = DisjointSet(sorted({item.dataset for item in items}))
    first_dataset: dict[str, str] = {}
    for item in items:
        disjoint_sets.merge(item.dataset, first_dataset.setdefault(item.group, item.dataset))
    return {origin: min(subset) for subset in disjoint_sets.subsets() for origin in subset}


def laboratory_balanced_weights(items: Sequence[HasGroup]) -> NDArray[np.float64]:
    """(N,), sum 1: every laboratory weighs the same, in it every source, in that every item.

    A laboratory with many cells, or a cell with many copies, must not decide for all.
    """
    laboratory_by_dataset = find_laboratories(items)
    keys = [(laboratory_by_dataset[item.dataset], item.group) for item in items]
    items_per_group = Counter(keys)
    groups_per_laboratory = Counter(laboratory for laboratory, _ in items_per_group)
    return np.array(
        [1 / (len(groups_per_laboratory) * groups_per_laboratory[key[0]] * items_per_group[key]) for key in keys]
    )

"""Weights that balance laboratories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import HasGroup
from wbctool.datasets.laboratories import find_laboratories
from wbctool.verification.criteria import MIN_GROUPS


def laboratory_balanced_weights(items: Sequence[HasGroup]) -> NDArray[np.float64]:
    """Weight items so that every laboratory weighs the same, in it every group, and in that every item.

    So neither a laboratory with many cells nor a cell with many copies dominates. A laboratory with fewer than 20
    groups weighs less, in proportion to its groups: what a single cell says of it may be chance.

    Args:
        items: Images, fields or cells.

    Returns:
        (N,), sum 1.
    """
    laboratory_by_dataset = find_laboratories(items)
    keys = [(laboratory_by_dataset[item.dataset], item.group) for item in items]
    items_per_group = Counter(keys)
    groups_per_laboratory = Counter(laboratory for laboratory, _ in items_per_group)
    weight_by_laboratory = {name: min(n_groups, MIN_GROUPS) for name, n_groups in groups_per_laboratory.items()}
    total = sum(weight_by_laboratory.values())
    return np.array(
        [weight_by_laboratory[key[0]] / (total * groups_per_laboratory[key[0]] * items_per_group[key]) for key in keys]
    )

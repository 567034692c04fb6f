"""Which data sets come from one laboratory: those that share originals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from wbctool.lab.labelled import Labelled


def laboratories(items: Sequence[Labelled]) -> dict[str, str]:
    """Origin -> laboratory, named by the first of its origins: two data sets of one original are one laboratory's."""
    together = DisjointSet(sorted({item.origin for item in items}))
    first_of: dict[str, str] = {}
    for item in items:
        together.merge(item.origin, first_of.setdefault(item.source, item.origin))
    return {origin: min(subset) for subset in together.subsets() for origin in subset}


def even_weights(items: Sequence[Labelled]) -> NDArray[np.float64]:
    """(N,), sum 1: every laboratory weighs the same, in it every source, in that every item.

    A laboratory with many cells, or a cell with many copies, must not decide for all.
    """
    of_origin = laboratories(items)
    keys = [(of_origin[item.origin], item.source) for item in items]
    copies = Counter(keys)
    sources = Counter(laboratory for laboratory, _ in copies)
    return np.array([1 / (len(sources) * sources[key[0]] * copies[key]) for key in keys])

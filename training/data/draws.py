"""Drawing cells so that every laboratory and every class is seen, whatever their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from numpy.random import Generator

from training.data.cells import CellSample
from training.data.laboratories import laboratories

_POWER = 0.25  # 0 draws all evenly, 1 as often as they have sources; even draws would repeat three basophils endlessly

Tree = dict[tuple[str, str], dict[str, dict[str, list[CellSample]]]]


class BalancedDraw:
    """Draws a class of a laboratory, one of its sources, a data set that shows it, and a cell there.

    Classes by their number of sources to the power 1/4, the rest evenly. So a laboratory of few originals is not shown
    so often that they are learned by heart, and not so seldom that its stain stays strange.
    """

    def __init__(self, cells: Sequence[CellSample]) -> None:
        laboratory = laboratories(cells)
        tree: Tree = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for cell in cells:
            tree[laboratory[cell.origin], str(cell.label)][cell.source][cell.origin].append(cell)
        self._classes = [
            [[origins[name] for name in sorted(origins)] for _, origins in sorted(tree[key].items())]
            for key in sorted(tree)
        ]
        weights = [len(sources) ** _POWER for sources in self._classes]
        self._shares = [weight / sum(weights) for weight in weights]

    def __call__(self, rng: Generator) -> CellSample:
        sources = self._classes[int(rng.choice(len(self._classes), p=self._shares))]
        origins = sources[int(rng.integers(len(sources)))]
        cells = origins[int(rng.integers(len(origins)))]
        return cells[int(rng.integers(len(cells)))]

"""Drawing cells so that every origin and every class is seen, whatever their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from numpy.random import Generator

from training.data.cells import CellSample

_CLASS_POWER = (
    0.25  # 0 draws classes evenly, 1 as often as they have sources; even draws would repeat three basophils endlessly
)


class BalancedDraw:
    """Draws an origin, one of its classes, one of the class's sources, and one of its cells.

    Origins by their number of classes, classes by their number of sources to the power 1/4, the rest evenly.
    """

    def __init__(self, cells: Sequence[CellSample]) -> None:
        tree: dict[str, dict[str, dict[str, list[CellSample]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for cell in cells:
            tree[cell.origin][str(cell.label)][cell.source].append(cell)
        self._origins = [
            [[sources[key] for key in sorted(sources)] for _, sources in sorted(tree[origin].items())]
            for origin in sorted(tree)
        ]
        self._shares = [
            [len(sources) ** _CLASS_POWER / sum(len(s) ** _CLASS_POWER for s in classes) for sources in classes]
            for classes in self._origins
        ]
        numbers = [len(classes) for classes in self._origins]
        self._origin_shares = [n / sum(numbers) for n in numbers]

    def __call__(self, rng: Generator) -> CellSample:
        origin = int(rng.choice(len(self._origins), p=self._origin_shares))
        sources = self._origins[origin][int(rng.choice(len(self._shares[origin]), p=self._shares[origin]))]
        cells = sources[int(rng.integers(len(sources)))]
        return cells[int(rng.integers(len(cells)))]

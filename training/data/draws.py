"""Drawing cells so that every laboratory and every class is seen, whatever their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from numpy.random import Generator

from training.data.cells import CellRef
from training.data.laboratories import find_laboratories

_BALANCING_EXPONENT = (
    0.25  # 0 draws all evenly, 1 as often as they have sources; even draws would repeat three basophils endlessly
)

Tree = dict[tuple[str, str], dict[str, dict[str, list[CellRef]]]]


class BalancedSampler:
    """Draws a class of a laboratory, one of its sources, a data set that shows it, and a cell there.

    Classes by their number of sources to the power 1/4, the rest evenly. So a laboratory of few originals is not shown
    so often that they are learned by heart, and not so seldom that its stain stays strange.
    """

    def __init__(self, cells: Sequence[CellRef]) -> None:
        laboratory_by_dataset = find_laboratories(cells)
        tree: Tree = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for cell in cells:
            tree[laboratory_by_dataset[cell.dataset], str(cell.label)][cell.group][cell.dataset].append(cell)
        self._classes = [
            [[origins[name] for name in sorted(origins)] for _, origins in sorted(tree[key].items())]
            for key in sorted(tree)
        ]
        weights = [len(sources) ** _BALANCING_EXPONENT for sources in self._classes]
        self._probabilities = [weight / sum(weights) for weight in weights]

    def __call__(self, rng: Generator) -> CellRef:
        groups = self._classes[int(rng.choice(len(self._classes), p=self._probabilities))]
        datasets = groups[int(rng.integers(len(groups)))]
        cells = datasets[int(rng.integers(len(datasets)))]
        return cells[int(rng.integers(len(cells)))]

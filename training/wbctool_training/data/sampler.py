"""Drawing cells so that every laboratory and every class is seen, whatever their numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from numpy.random import Generator
from torch.utils.data import Sampler

from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.laboratories import find_laboratories

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


class EpochSampler(Sampler[int]):
    """Indices ``epoch * length … (epoch + 1) * length - 1``. Lightning calls set_epoch, on resume too."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0
        self._resume_point = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume_from(self, epoch: int, n_drawn: int) -> None:
        """The first ``n_drawn`` draws of that epoch were seen before."""
        self._resume_point = epoch, n_drawn

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        epoch, n_drawn = self._resume_point
        first = n_drawn if epoch == self.epoch else 0
        return iter(range(self.epoch * self.length + first, (self.epoch + 1) * self.length))

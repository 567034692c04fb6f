"""Samplers: cells balanced over laboratories and classes, and the indices of an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from numpy.random import Generator
from torch.utils.data import Sampler

from wbctool.datasets.laboratories import find_laboratories
from wbctool_training.data.cell_index import CellRef

# 0 samples all classes equally often, 1 by their number of groups. At 0, three basophils would be repeated endlessly.
_BALANCING_EXPONENT = 0.25

Tree = dict[tuple[str, str], dict[str, dict[str, list[CellRef]]]]  # (laboratory, class), group, dataset


class BalancedSampler:
    """Samples a class of a laboratory, one of its groups, a dataset that shows it, and a cell there.

    Classes are sampled by the fourth root of their number of groups, the rest uniformly. So a laboratory with few
    groups is neither memorized nor too rare for its stain to be learned.

    Args:
        cells: What to sample from.
    """

    def __init__(self, cells: Sequence[CellRef]) -> None:
        laboratory_by_dataset = find_laboratories(cells)
        tree: Tree = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for cell in cells:
            tree[laboratory_by_dataset[cell.dataset], str(cell.label)][cell.group][cell.dataset].append(cell)
        self._classes = [
            [[datasets[name] for name in sorted(datasets)] for _, datasets in sorted(tree[key].items())]
            for key in sorted(tree)
        ]
        weights = [len(groups) ** _BALANCING_EXPONENT for groups in self._classes]
        self._probabilities = [weight / sum(weights) for weight in weights]

    def __call__(self, rng: Generator) -> CellRef:
        """Sample one cell."""
        groups = self._classes[int(rng.choice(len(self._classes), p=self._probabilities))]
        datasets = groups[int(rng.integers(len(groups)))]
        cells = datasets[int(rng.integers(len(datasets)))]
        return cells[int(rng.integers(len(cells)))]


class EpochSampler(Sampler[int]):
    """Yields the indices from ``epoch * length`` up to ``(epoch + 1) * length``; Lightning calls set_epoch.

    Args:
        length: Items per epoch.
    """

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0
        self._resume_point = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume_from(self, epoch: int, n_drawn: int) -> None:
        """Skip the first ``n_drawn`` indices of an epoch, which an interrupted training has used."""
        self._resume_point = epoch, n_drawn

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        epoch, n_drawn = self._resume_point
        first = n_drawn if epoch == self.epoch else 0
        return iter(range(self.epoch * self.length + first, (self.epoch + 1) * self.length))

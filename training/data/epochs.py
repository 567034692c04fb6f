"""Epochs over data that is drawn and never ends: each sees new draws, a resumed one those that it has not seen yet."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler


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

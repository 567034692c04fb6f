"""Epochs over data that is drawn and never ends: each sees new draws, a resumed one those it would have seen."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler


class EpochSlices(Sampler[int]):
    """Indices ``epoch * length … (epoch + 1) * length - 1``. Lightning calls set_epoch, on resume too."""

    def __init__(self, length: int) -> None:
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.length, (self.epoch + 1) * self.length))

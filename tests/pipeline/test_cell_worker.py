from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from wbctool.pipeline.cell_worker import batch_fields


def batch(cells_by_field: Sequence[int], size: int) -> list[list[int]]:
    fields = [SimpleNamespace(crops=(None,) * n_cells) for n_cells in cells_by_field]
    return [[len(field.crops) for field in group] for group in batch_fields(fields, size)]


@pytest.mark.parametrize(
    ("cells_by_field", "expected"),
    [
        ([], []),
        ([1, 1, 1, 1, 1], [[1, 1, 1, 1], [1]]),
        ([3, 2, 1], [[3], [2, 1]]),
        ([9, 1], [[9], [1]]),
        ([0] * 6, [[0] * 4, [0] * 2]),
        ([0, 0, 0, 5], [[0, 0, 0], [5]]),
    ],
)
def test_batch_fields_by_cells_and_by_fields(cells_by_field: Sequence[int], expected: list[list[int]]) -> None:
    assert batch(cells_by_field, 4) == expected


def test_batch_fields_does_not_wait_for_the_end_of_fields_without_cells() -> None:
    taken: list[int] = []

    def fields():
        for number in range(1000):
            taken.append(number)
            yield SimpleNamespace(crops=())

    next(batch_fields(fields(), 16))
    assert len(taken) == 16

from __future__ import annotations

from pathlib import Path

import pytest
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.laboratories import find_laboratories, laboratory_balanced_weights

from wbctool.types.cells import Box


def cells(dataset: str, group: str, copies: int = 1) -> list[CellRef]:
    return [CellRef(Path("x.png"), Box(0, 0, 9, 9), None, group, dataset)] * copies


def test_find_laboratories_joins_datasets_with_shared_groups() -> None:
    assert find_laboratories([*cells("z", "1"), *cells("a", "2"), *cells("m", "3")]) == {"z": "z", "a": "a", "m": "m"}
    chain = [*cells("fields", "1"), *cells("copies", "1"), *cells("copies", "2"), *cells("reduced", "2")]
    assert find_laboratories([*chain, *cells("other", "9")]) == {
        "fields": "copies",
        "copies": "copies",
        "reduced": "copies",
        "other": "other",
    }


def test_laboratory_balanced_weights_weigh_laboratories_and_groups_equally() -> None:
    many = [*cells("many", "a", 6), *cells("many", "b", 1), *cells("copied", "b", 1)]
    weights = laboratory_balanced_weights([*many, *cells("few", "c")])
    assert weights.tolist() == pytest.approx([1 / 24] * 6 + [1 / 8] * 2 + [1 / 2])

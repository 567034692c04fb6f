from __future__ import annotations

from pathlib import Path

import pytest
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.laboratories import laboratory_balanced_weights

from wbctool.types.cells import Box


def cells(dataset: str, group: str, copies: int = 1) -> list[CellRef]:
    return [CellRef(Path("x.png"), Box(0, 0, 9, 9), None, group, dataset)] * copies


def test_laboratory_balanced_weights_weigh_laboratories_and_groups_equally() -> None:
    many = [*cells("many", "a", 6), *cells("many", "b", 1), *cells("copied", "b", 1)]
    weights = laboratory_balanced_weights([*many, *cells("few", "c")])
    assert weights.tolist() == pytest.approx([1 / 24] * 6 + [1 / 8] * 2 + [1 / 2])

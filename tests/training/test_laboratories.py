from __future__ import annotations

from pathlib import Path

import pytest
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.laboratories import laboratory_balanced_weights

from wbctool.types.cells import Box


def cells(dataset: str, group: str, copies: int = 1) -> list[CellRef]:
    return [CellRef(Path("x.png"), Box(0, 0, 9, 9), None, group, dataset)] * copies


def test_laboratory_balanced_weights_weigh_laboratories_and_groups_equally() -> None:
    many = [*cells("many", "a", 6), *cells("many", "b"), *cells("copied", "b")]
    many += [cell for n in range(38) for cell in cells("many", f"m{n}")]  # 40 groups
    few = [cell for n in range(20) for cell in cells("few", f"f{n}")]
    weights = laboratory_balanced_weights([*many, *few])
    assert weights.tolist() == pytest.approx([1 / 480] * 6 + [1 / 160] * 2 + [1 / 80] * 38 + [1 / 40] * 20)


def test_laboratory_balanced_weights_of_few_groups_are_in_proportion_to_them() -> None:
    """One cell of a laboratory had a fifth of the weight; misread, it would have lowered the threshold to 0.51."""
    large = [cell for n in range(40) for cell in cells("large", f"l{n}")]
    five = [cell for n in range(5) for cell in cells("five", f"f{n}")]
    weights = laboratory_balanced_weights([*large, *five, *cells("one", "o", 2)])
    assert weights.tolist() == pytest.approx([20 / 26 / 40] * 40 + [1 / 26] * 5 + [1 / 52] * 2)

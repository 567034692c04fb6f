"""What cells teach, and which of them measure."""

import numpy as np
import pytest

from wbctool.adaptation.adapt import to_cell_labels
from wbctool.adaptation.cells import AdaptationCell, merge_cells
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass
from wbctool.types.cells import Crop

NEUTROPHIL, MONOCYTE = CellClass.NEUTROPHIL, CellClass.MONOCYTE


def make_cell(number: int, label: CellClass = NEUTROPHIL, *, is_named: bool = True) -> AdaptationCell:
    return AdaptationCell(label, "s", f"cell {number}", Crop(np.full((40, 40, 3), number, np.uint8)), is_named)


@pytest.mark.parametrize(
    ("n_named", "n_unmoved", "unmoved_weight"),
    [(10, 5, 0.3), (10, 190, 10 / 190)],
    ids=["each less than a named one", "in all no more than the named ones"],
)
def test_to_cell_labels_weighs_cells_that_a_reader_did_not_move(
    n_named: int, n_unmoved: int, unmoved_weight: float
) -> None:
    cells = [make_cell(i, is_named=i < n_named) for i in range(n_named + n_unmoved)]
    cell_labels = to_cell_labels(cells)
    assert cell_labels.weights.tolist() == pytest.approx([1.0] * n_named + [unmoved_weight] * n_unmoved)
    assert cell_labels.named.tolist() == [True] * n_named + [False] * n_unmoved


def test_merge_cells_what_a_reader_named_wins_over_what_one_did_not_move() -> None:
    unmoved, named = make_cell(1, NEUTROPHIL, is_named=False), make_cell(1, MONOCYTE)
    assert [cell.label for cell in merge_cells([unmoved, named])] == [MONOCYTE]
    assert merge_cells([unmoved, make_cell(1, MONOCYTE, is_named=False)]) == []
    with pytest.raises(LabelledDataInvalid, match="labeled twice"):
        merge_cells([make_cell(1, NEUTROPHIL), named])

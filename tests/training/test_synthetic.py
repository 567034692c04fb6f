"""Synthetic images are read back as cells of their class and group."""

from pathlib import Path

import numpy as np
import pytest
import torch
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.models.srgan import Generator
from wbctool_training.synthetic import GENERATED, generate_cells, read_generated_cells, write_record

from wbctool.datasets.labelled import GroupSplit
from wbctool.datasets.laboratories import find_laboratories
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.reader import read_field
from wbctool.labels import CellClass
from wbctool.types.cells import Box

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


def test_generate_cells_images_are_cells_of_their_group(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(blocks=1, width=8)
    generator.init_as_interpolation()
    cells = [CellRef(DEMO[0], Box(200, 150, 160, 150), CellClass.MONOCYTE, "patient/4,_a", "bccd")]
    generate_cells(generator, CellClass.MONOCYTE, cells, 1.25, 3, tmp_path, seed=1)
    generate_cells(generator, CellClass.MONOCYTE, cells, 1.25, 2, tmp_path, seed=0)
    write_record(tmp_path, GroupSplit(), 2)

    # the first call's images are deleted
    first, second = read_generated_cells(tmp_path, [CellClass.MONOCYTE], 1.25, GroupSplit(), 2)
    assert (first.label, first.group, first.dataset) == (CellClass.MONOCYTE, "patient/4,_a", f"{GENERATED} bccd")
    assert len(set(find_laboratories([*cells, first]).values())) == 1
    whole = read_field(first.path).rgb
    assert whole.shape == (128, 128, 3)
    np.testing.assert_array_equal(crop_cell(first, 1.25), whole)
    assert not np.array_equal(whole, read_field(second.path).rgb)


@pytest.mark.parametrize(
    "wanted",
    [
        ([CellClass.MONOCYTE], GroupSplit(fold=1), 1),  # among its training groups are test groups of this split
        ([CellClass.MONOCYTE], GroupSplit(held_out_datasets=("pbc",)), 1),
        ([CellClass.MONOCYTE], GroupSplit(), 2),
        ([CellClass.MONOCYTE, CellClass.BASOPHIL], GroupSplit(), 1),
    ],
)
def test_read_generated_cells_made_for_another_training_are_refused(
    tmp_path: Path, wanted: tuple[list[CellClass], GroupSplit, int]
) -> None:
    classes, group_split, n_images = wanted
    (tmp_path / "monocyte").mkdir()
    (tmp_path / "monocyte" / "00000,bccd,a.png").write_bytes(b"")
    write_record(tmp_path, GroupSplit(), 1)
    assert len(read_generated_cells(tmp_path, [CellClass.MONOCYTE], 1.25, GroupSplit(), 1)) == 1
    with pytest.raises(LabelledDataInvalid, match=f"does not hold {n_images} generated images of each class"):
        read_generated_cells(tmp_path, classes, 1.25, group_split, n_images)


def test_read_generated_cells_without_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "monocyte").mkdir()
    (tmp_path / "monocyte" / "00000,bccd,a.png").write_bytes(b"")
    with pytest.raises(LabelledDataInvalid, match="make them with --stage srgan"):
        read_generated_cells(tmp_path, [CellClass.MONOCYTE], 1.25, GroupSplit(), 1)

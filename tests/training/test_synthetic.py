"""Synthetic images are read back as cells of their class and group."""

from pathlib import Path

import numpy as np
import torch
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.models.srgan import Generator
from wbctool_training.synthetic import GENERATED, generate_cells, read_generated_cells

from wbctool.imaging.reader import read_field
from wbctool.labels import CellClass
from wbctool.types.cells import Box

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


def test_generate_cells_images_are_cells_of_their_group(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Generator(blocks=1, width=8)
    generator.init_as_interpolation()
    cells = [CellRef(DEMO[0], Box(200, 150, 160, 150), CellClass.MONOCYTE, "patient/4_a", "bccd")]
    generate_cells(generator, CellClass.MONOCYTE, cells, 1.25, 3, tmp_path, seed=1)
    generate_cells(generator, CellClass.MONOCYTE, cells, 1.25, 2, tmp_path, seed=0)

    first, second = read_generated_cells(tmp_path, 1.25)  # the first call's images are deleted
    assert (first.label, first.group, first.dataset) == (CellClass.MONOCYTE, "patient/4_a", GENERATED)
    whole = read_field(first.path).rgb
    assert whole.shape == (128, 128, 3)
    np.testing.assert_array_equal(crop_cell(first, 1.25), whole)
    assert not np.array_equal(whole, read_field(second.path).rgb)

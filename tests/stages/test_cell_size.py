"""The diameter of cells: by the given scale, by the field's red cells, or by the slide's."""

from dataclasses import replace

import fakes
import pytest

from wbctool.stages.cell_size import add_diameters, find_scales
from wbctool.types.cells import Box, Cell, Detection
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import FieldQuality

EMPTY = FieldQuality("a", None, None, None, None, None, None)


def field(name: str, red_cells: int = 0, red_cell_px: float | None = None, **values) -> FieldQuality:
    return replace(EMPTY, field=name, red_cells=red_cells, red_cell_px=red_cell_px, **values)


def cell(width: int, height: int, name: str = "a", cut: bool = False) -> Cell:
    return Cell(name, 1, Detection(Box(0, 0, width, height), 0.9, cut), False, fakes.predict("neutrophil"))


def test_given_scale_comes_before_the_red_cells():
    (measured,) = add_diameters([cell(90, 160)], [field("a", 50, 60.0, um_per_px=0.1)])
    assert measured.diameter_um == pytest.approx(12.0)  # the square root of 90 × 160 is 120


def test_red_cells_of_the_field_are_7_5_um_wide():
    (measured,) = add_diameters([cell(120, 120)], [field("a", 20, 75.0), field("b", 500, 30.0)])
    assert measured.diameter_um == pytest.approx(12.0)


def test_few_red_cells_are_pooled_over_the_slide():
    fields = [field("a", 5, 75.0), field("b", 9, 80.0), field("c", 6, 70.0), field("d")]
    assert find_scales(fields) == dict.fromkeys("abcd", 7.5 / 75)
    assert find_scales(fields[:2]) == dict.fromkeys("ab")  # 14 are too few


def test_fields_of_several_magnifications_are_not_pooled():
    fields = [field("a", 15, 75.0), field("b", 15, 30.0), field("c", 20, 75.0)]
    assert find_scales(fields) == {"a": None, "b": None, "c": 0.1}


def test_cell_without_a_scale_or_cut_by_the_border_has_no_diameter():
    cells = [cell(120, 120, "b"), cell(120, 120, "c"), cell(120, 120, cut=True)]
    fields = [field("a", 30, 75.0, um_per_px=0.1), field("b", 30, 75.0, um_per_px=0.5, scale_mismatch=True)]
    assert [c.diameter_um for c in add_diameters(cells, fields)] == [None, None, None]


def test_scale_of_a_scan_is_that_of_level_0():
    scan = ScanSummary("a.svs", (), um_per_px=0.25, downsample=4.0)
    fields = [field("zone-1", um_per_px=1.0), field("zone-2", um_per_px=1.0, scale_mismatch=True), field("zone-3")]
    assert find_scales(fields, scan) == {"zone-1": 0.25, "zone-2": None, "zone-3": 0.25}

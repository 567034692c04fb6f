from __future__ import annotations

import pytest

from wbctool.stages import shared_cells
from wbctool.stages.field_overlap import Overlap
from wbctool.stages.shared_cells import find_repeated_cells, match_cells
from wbctool.types.cells import Box, Detection
from wbctool.types.results import FieldThumbnail

SIZE = FieldThumbnail("f", 1000, 800, b"")


def match(first, second, dx=800, dy=0):
    """Match (x, y, width, height), with one more entry if the border cuts the cell."""
    cells, others = ([Detection(Box(*b[:4]), 0.9, len(b) > 4) for b in field] for field in (first, second))
    return match_cells(cells, others, Overlap(0, 1, dx, dy, 0.9), SIZE)


def test_match_cells_matches_whole_cells_in_the_shared_zone():
    assert match([(850, 100, 90, 90), (100, 100, 90, 90)], [(52, 97, 92, 88)]) == [(0, 0)]


def test_match_cells_leaves_cells_elsewhere():
    assert match([(850, 100, 90, 90), (100, 100, 90, 90)], [(50, 300, 90, 90), (100, 100, 90, 90)]) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((740, 100, 120, 120), (0, 100, 60, 120)),  # whole in the first, half in the second
        ((740, 100, 120, 120), (0, 125, 25, 70)),  # a sliver of it in the second
        ((740, 100, 260, 260), (0, 100, 260, 260)),  # a cell wider than the zone, cut in both
        ((940, 100, 60, 120), (140, 101, 118, 118)),  # whole in the second
    ],
)
def test_match_cells_compares_what_both_fields_show(first, second):
    assert match([first], [second]) == [(0, 0)]


def test_match_cells_matches_touching_cells_each_once():
    first = [(850, 100, 90, 90), (900, 120, 90, 90)]
    second = [(101, 121, 89, 88), (50, 100, 91, 90)]
    assert match(first, second) == [(0, 1), (1, 0)]


def test_match_cells_takes_two_cut_parts_for_one_cell():
    whole, parts = (760, 100, 120, 120), [(0, 100, 75, 60, "cut"), (0, 150, 70, 68, "cut")]
    assert match([whole], parts) == [(0, 0), (0, 1)]


def test_match_cells_leaves_a_second_whole_cell():
    assert match([(820, 100, 150, 100)], [(20, 100, 80, 95), (95, 100, 74, 100)]) == [(0, 0)]


def overlap_fields(monkeypatch, *overlaps):
    monkeypatch.setattr(shared_cells, "find_overlaps", lambda views: [Overlap(*o, 0.9) for o in overlaps])


def repeated(*cells):
    """Return what find_repeated_cells does for (field, x, y, width, height, cut)."""
    fields = [cell[0] for cell in cells]
    detections = [Detection(Box(*box), 0.9, cut) for _, *box, cut in cells]
    thumbnails = [FieldThumbnail(name, 1000, 800, b"") for name in dict.fromkeys(fields)]
    return find_repeated_cells(fields, detections, thumbnails)


def test_first_of_equal_photographs_is_kept(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 800, 0))
    assert repeated(("a", 850, 100, 90, 90, False), ("b", 50, 100, 90, 90, False)) == {1: 0}


def test_whole_photograph_is_kept_even_if_it_is_later(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 800, 0))
    assert repeated(("a", 940, 100, 60, 120, True), ("b", 140, 100, 120, 120, False)) == {0: 1}


def test_of_two_cut_photographs_the_larger_is_kept(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 950, 0))
    assert repeated(("a", 940, 100, 60, 120, True), ("b", 0, 100, 100, 120, True)) == {0: 1}


def test_cell_in_four_fields_is_kept_once(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 800, 0), (0, 2, 0, 600), (1, 3, 0, 600), (2, 3, 800, 0))
    cells = [("a", 850, 650, 90, 90), ("b", 50, 650, 90, 90), ("c", 850, 50, 90, 90), ("d", 50, 50, 90, 90)]
    assert repeated(*((*cell, False) for cell in cells)) == {1: 0, 2: 0, 3: 0}
    assert repeated(*((*cell, cell[0] != "c") for cell in cells)) == {0: 2, 1: 2, 3: 2}


def test_cells_of_one_field_are_never_the_same(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 800, 0), (1, 2, 0, 0), (0, 2, 800, 60))  # the last is wrong by a cell
    cells = [("a", 850, 100, 90, 90), ("a", 850, 160, 90, 90), ("b", 50, 100, 90, 90), ("c", 50, 100, 90, 90)]
    assert repeated(*((*cell, False) for cell in cells)) == {2: 0, 3: 0}


def test_fields_without_a_cell_in_common_keep_all(monkeypatch):
    overlap_fields(monkeypatch, (0, 1, 800, 0))
    assert repeated(("a", 100, 100, 90, 90, False), ("b", 500, 100, 90, 90, False)) == {}

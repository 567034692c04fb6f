"""Tiles of a large field, worked by hand."""

import numpy as np
import pytest

from wbctool.stages.tiles import Tile, choose_places, divide_into_tiles, merge_tiles
from wbctool.types.cells import Box, Detection, ObjectClass

SIZE = (200, 100)  # of a field of two tiles whose cores meet at x = 100
LEFT = Tile(frame=Box(0, 0, 120, 100), core=Box(0, 0, 100, 100), margin_px=20)
RIGHT = Tile(frame=Box(80, 0, 120, 100), core=Box(100, 0, 100, 100), margin_px=20)


def cell(x, y=40, side=20, score=0.9, cut=False, kind=ObjectClass.NUCLEATED):
    return Detection(Box(x, y, side, side), score, cut, kind)


def merge(left, right, slack_px=3.0):
    return merge_tiles([(LEFT, left), (RIGHT, right)], *SIZE, slack_px, 0.5)


@pytest.mark.parametrize("size", [(1000, 700), (5000, 90), (401, 400), (301, 2003)])
def test_cores_cover_each_pixel_once_and_frames_reach_beyond(size):
    width, height = size
    covered = np.zeros((height, width), int)
    for tile in divide_into_tiles(width, height, 400, 40):
        frame, core = tile.frame, tile.core
        covered[core.y : core.y + core.height, core.x : core.x + core.width] += 1
        assert max(frame.width, frame.height) <= 401
        assert frame.x == max(0, core.x - 40)
        assert frame.y == max(0, core.y - 40)
        assert frame.x + frame.width == min(width, core.x + core.width + 40)
        assert frame.y + frame.height == min(height, core.y + core.height + 40)
    assert (covered == 1).all()


def test_tiles_begin_at_multiples_of_the_step():
    tiles = divide_into_tiles(5000, 3000, 700, 90, 32)
    assert {(tile.frame.x % 32, tile.frame.y % 32) for tile in tiles} == {(0, 0)}
    assert {tile.margin_px for tile in tiles} == {96}
    assert max(max(tile.frame.width, tile.frame.height) for tile in tiles) <= 700
    assert sum(tile.core.width * tile.core.height for tile in tiles) == 5000 * 3000


def test_a_field_within_a_tile_is_one_tile():
    (tile,) = divide_into_tiles(400, 300, 400, 40)
    assert tile.frame == tile.core == Box(0, 0, 400, 300)


def test_a_cell_on_a_seam_is_found_once_with_the_whole_box():
    # Its center is at 95, so it belongs to the left tile; the right one sees what begins at 85 and at 90 in the field.
    assert [d.box for d in merge([cell(85)], [cell(5)])] == [Box(85, 40, 20, 20)]
    # Its center is at 105; the left tile sees it whole, too.
    assert [d.box for d in merge([cell(95)], [cell(15)])] == [Box(95, 40, 20, 20)]


@pytest.mark.parametrize(("left", "right"), [(89, 11), (91, 9), (92, 8), (88, 12)])
def test_a_cell_whose_center_two_tiles_see_on_two_sides_is_found_once(left, right):
    assert len(merge([cell(left)], [cell(right)])) == 1


def test_a_part_of_a_cell_of_another_tile_is_dropped_in_either_order():
    assert len(merge([cell(82, side=36)], [cell(15, side=12)])) == 1
    assert len(merge([cell(95, side=9)], [cell(6, 34, side=30)])) == 1


def test_neighbors_across_a_seam_and_other_classes_are_kept():
    assert len(merge([cell(80)], [cell(21)])) == 2
    assert len(merge([cell(89)], [cell(11, kind=ObjectClass.RED_CELL)])) == 2


def test_only_the_border_of_the_field_cuts_a_cell():
    inner, outer = merge([cell(85, cut=True)], [cell(100, cut=True)])
    assert (inner.cut_by_border, outer.cut_by_border) == (False, True)
    assert outer.box == Box(180, 40, 20, 20)


def test_no_cell_is_found_twice_where_several_tiles_meet():
    tiles = divide_into_tiles(200, 200, 160, 30)
    assert len(tiles) == 9
    rng = np.random.default_rng(0)
    places = [(x, y) for x in range(4, 180, 24) for y in range(4, 180, 24)]
    found = []
    for tile in tiles:
        frame, seen = tile.frame, []
        for x, y in places:
            dx, dy = rng.integers(-1, 2, 2).tolist()  # no two tiles see a cell at quite the same place
            x0, y0 = x + dx - frame.x, y + dy - frame.y
            if x0 >= 0 and y0 >= 0 and x0 + 20 <= frame.width and y0 + 20 <= frame.height:
                seen.append(cell(x0, y0))
        found.append((tile, seen))
    merged = merge_tiles(found, 200, 200, 3.0, 0.5)
    assert sorted((round((d.box.x - 4) / 24), round((d.box.y - 4) / 24)) for d in merged) == sorted(
        ((x - 4) // 24, (y - 4) // 24) for x, y in places
    )


def test_places_are_spread_over_the_field():
    assert choose_places(1000, 320, 320, 24) == [(0, 0), (340, 0), (680, 0)]
    assert choose_places(100, 50, 320, 24) == [(0, 0)]
    assert len(choose_places(100_000, 100_000, 320, 5)) == 25

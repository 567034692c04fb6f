"""The size of red cells by trial, with a detector of which is known what it sees."""

import numpy as np
import pytest

from wbctool.errors import CellsTooSmall
from wbctool.inference.model_card import DetectorCard, default_models_dir, read_card_of_kind
from wbctool.stages.red_cell_size import choose_tile_scale, find_small_red_cells_px, measure_red_cells
from wbctool.types.cells import Box, Detection, Field, ObjectClass

COARSEST = 0.25


@pytest.fixture(scope="module")
def card() -> DetectorCard:
    return read_card_of_kind(default_models_dir() / "detector.json", DetectorCard)


@pytest.fixture(scope="module")
def field() -> Field:
    return Field("large", np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8))


def red_cells(side_px: int, width: int, height: int, step: float = 1.6) -> list[Detection]:
    pitch = round(step * side_px)
    return [
        Detection(Box(x, y, side_px, side_px), 0.9, object_class=ObjectClass.RED_CELL)
        for y in range(0, height - side_px, pitch)
        for x in range(0, width - side_px, pitch)
    ]


class Smear:
    """A detector on a smear of red cells of one size: it sees those of 12 to 130 scaled pixels, else clumps."""

    def __init__(self, side_px: int) -> None:
        self.side_px = side_px
        self.scales: list[float] = []

    def __call__(self, part: Field, scale: float) -> list[Detection]:
        self.scales.append(scale)
        height, width = part.rgb.shape[:2]
        if 12 <= self.side_px * scale <= 130:
            return red_cells(self.side_px, width, height)
        return red_cells(round(30 / scale), width, height, step=5)  # they cover a twenty-fifth


@pytest.mark.parametrize("step", [5, None])
def test_native_resolution_that_shows_few_red_cells_or_none_is_magnified(card, field, step):
    """Red cells of 10 pixels are missed, or some are taken for larger ones."""
    smear, shown = Smear(10), red_cells(16, 2000, 1500, step) if step else ()
    assert find_small_red_cells_px(field, shown, 1.0, 1.0, card, smear) == 10
    assert smear.scales == [2.0] * 4
    with pytest.raises(CellsTooSmall, match="7 pixels"):
        find_small_red_cells_px(field, shown, 1.0, 1.0, card, Smear(7))
    assert find_small_red_cells_px(field, (), 1.0, 1.0, card, Smear(20)) is None  # they are none of the small ones


def test_native_resolution_of_a_small_field_or_with_many_red_cells_is_not_tried(card, field):
    smear = Smear(20)
    small = Field("small", np.ascontiguousarray(field.rgb[:480, :640]))
    assert find_small_red_cells_px(small, (), 1.0, 1.0, card, smear) is None
    assert find_small_red_cells_px(field, red_cells(20, 2000, 1500), 1.0, 1.0, card, smear) is None
    assert smear.scales == []


def test_small_red_cells_in_native_resolution_are_to_be_magnified(card, field):
    assert find_small_red_cells_px(field, red_cells(13, 2000, 1500), 1.0, 1.0, card, Smear(13)) == 13


@pytest.mark.parametrize("side_px", [14, 20, 40])
def test_small_red_cells_are_measured(card, field, side_px):
    assert find_small_red_cells_px(field, (), COARSEST, COARSEST, card, Smear(side_px)) == side_px


def test_red_cells_that_the_whole_field_shows_are_not_small(card, field):
    smear = Smear(100)
    shown = red_cells(100, 2000, 1500)
    assert find_small_red_cells_px(field, shown, COARSEST, COARSEST, card, smear) is None
    assert smear.scales == [1.0] * 3  # three of them from close up
    assert find_small_red_cells_px(field, (), COARSEST, COARSEST, card, smear) is None


def test_a_few_clumps_in_the_whole_field_are_not_believed(card, field):
    shown = red_cells(100, 2000, 1500, step=5)
    assert find_small_red_cells_px(field, shown, COARSEST, COARSEST, card, Smear(20)) == 20


def test_round_smears_that_look_like_red_cells_are_not_believed(card, field):
    shown = red_cells(300, 2000, 1500)
    assert find_small_red_cells_px(field, shown, COARSEST, COARSEST, card, Smear(20)) == 20


def test_red_cells_too_small_for_native_resolution_are_seen_upscaled(card, field):
    assert find_small_red_cells_px(field, (), COARSEST, COARSEST, card, Smear(9)) == 9


def test_red_cells_too_small_for_any_scale_are_named(card, field):
    with pytest.raises(CellsTooSmall, match="7 pixels"):
        find_small_red_cells_px(field, (), COARSEST, COARSEST, card, Smear(7))


def test_field_without_red_cells_has_none(card, field):
    smear = Smear(1)
    assert find_small_red_cells_px(field, (), COARSEST, COARSEST, card, smear) is None
    assert set(smear.scales) == {1.0, 2.0}


def test_glass_is_not_looked_at(card):
    smear = Smear(20)
    glass = Field("glass", np.full((1500, 2000, 3), 210, np.uint8))
    assert find_small_red_cells_px(glass, (), COARSEST, COARSEST, card, smear) is None
    assert smear.scales == []
    half = glass.rgb.copy()
    half[:400, :400] = np.random.default_rng(0).integers(0, 256, (400, 400, 3))
    assert find_small_red_cells_px(Field("half", half), (), COARSEST, COARSEST, card, smear) == 20


def test_a_large_field_is_tried_at_coarser_scales_too(card):
    field = Field("long", np.random.default_rng(0).integers(0, 256, (320, 30_000, 3), dtype=np.uint8))
    smear = Smear(150)
    assert find_small_red_cells_px(field, (), 0.085, 0.085, card, smear) == 150
    assert set(smear.scales) == {1.0, 0.25}


def test_tiles_are_upscaled_only_if_native_red_cells_are_hardly_visible(card):
    assert choose_tile_scale(96, card) == 0.5
    assert choose_tile_scale(20, card) == 1.0
    assert choose_tile_scale(10, card) == 2.0


def test_measure_red_cells_takes_the_confident_ones(card):
    seen = [
        Detection(Box(0, 0, 10, 10), 0.9, object_class=ObjectClass.RED_CELL),
        Detection(Box(0, 0, 20, 5), 0.9, object_class=ObjectClass.RED_CELL),
        Detection(Box(0, 0, 90, 90), 0.2, object_class=ObjectClass.RED_CELL),
        Detection(Box(0, 0, 90, 90), 0.9),
    ]
    measured = measure_red_cells(seen, 1000, card)
    assert (measured.count, measured.side_px, measured.share) == pytest.approx((2, 10, 0.2))

"""The size of red cells that are too small to be seen when a field is looked at whole.

A field that is looked at in its own pixels shows that itself. Of a larger one small parts are looked at, first at
native resolution. At the right scale red cells cover a large share of a smear; at a wrong one the detector takes
clumps, or granules, for a few red cells that cover hardly any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import CellsTooSmall
from wbctool.inference.model_card import DetectorCard
from wbctool.stages.tiles import choose_places
from wbctool.types.cells import Detection, Field, ObjectClass

_MIN_RED_CELLS = 3  # fewer do not show the scale
_MIN_SHARE = 0.1  # of the pixels: the red cells' area. At the right scale it is a quarter or more, at a wrong one 0.08
_MIN_SHARE_OF_SMALL = 0.05  # the same, of red cells so small that some are missed
_SURE_FRACTION = 0.6  # of the card's smallest red cell; of smaller ones a look at the whole field may miss many
_VISIBLE_FRACTION = 0.55  # of the card's smallest red cell; of smaller ones most are missed, and the others seem larger
_MAX_UPSCALING = 2.0  # of a tile or a part of the field
_SAMPLES = 3  # the number of red cells that are looked at closely
_MAX_SIZE_RATIO = 0.5  # of the size from close up and from afar, of the same red cells: 0.85
PARTS = 12  # the number of parts that are looked at
PLACES_PER_SIDE = 24  # among so many places, rows and columns, those parts are chosen
_MIN_MAGNIFIED_PX = 700  # of a field's longer side; a smaller one shows few cells if they are small
_MAGNIFIED_PARTS = 4  # that are looked at magnified if a field of that size shows few red cells
_STEP = 4.0  # red cells are measured well at half and at twice their best size
_MIN_VARIED_STD = 6.0  # gray levels; below, a part is glass

DetectAt = Callable[[Field, float], Sequence[Detection]]


@dataclass(frozen=True, slots=True)
class RedCells:
    """The confident red cells of one look.

    Attributes:
        count: Their number.
        side_px: The median of their sides, in native pixels; 0 without any.
        share: The share of the pixels that they cover.
    """

    count: int
    side_px: float
    share: float


def find_small_red_cells_px(
    field: Field,
    detections: Sequence[Detection],
    scale: float,
    max_whole_scale: float,
    card: DetectorCard,
    detect_at: DetectAt,
) -> float | None:
    """Find out whether the red cells of a field are too small to be seen in a look at the whole field.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        detections: What was found in the whole field.
        scale: The scale at which it was found.
        max_whole_scale: The finest scale at which the whole field can be looked at.
        card: The detector's card.
        detect_at: Detects the objects of a field that is resized by a scale, in native pixels.

    Returns:
        The side of the red cells in native pixels if they are too small; None if they are not, or there are none.

    Raises:
        CellsTooSmall: They are too small to be seen at any scale.
    """
    height, width = field.rgb.shape[:2]
    shown = measure_red_cells(detections, height * width, card)
    sure_px = _SURE_FRACTION * card.min_red_cell_px
    shows_them = shown.count >= _MIN_RED_CELLS and shown.share >= _MIN_SHARE and shown.side_px * scale >= sure_px
    if max_whole_scale >= 1:  # its own pixels were looked at, and can only be magnified
        if shows_them:
            return None
        if max(height, width) >= _MIN_MAGNIFIED_PX:
            magnified = _try_scale(field, _MAX_UPSCALING, card, detect_at, _MAGNIFIED_PARTS)
            if magnified.share >= max(_MIN_SHARE, shown.share) and magnified.side_px < sure_px:
                return _check_visible(magnified.side_px, card)
        shows_small = shown.count >= _MIN_RED_CELLS and shown.share >= _MIN_SHARE_OF_SMALL
        return shown.side_px if shows_small and shown.side_px * scale < sure_px else None
    if shows_them and not _consist_of_smaller(field, detections, shown, card, detect_at):
        return None
    side_px = _find_red_cell_px(field, max_whole_scale, card, detect_at)
    return side_px if side_px is not None and side_px * max_whole_scale < sure_px else None


def choose_tile_scale(red_cell_px: float, card: DetectorCard) -> float:
    """Return the scale for red cells of ``target_red_cell_px``; above 1 only if native ones are hardly visible."""
    is_visible = red_cell_px >= _VISIBLE_FRACTION * card.min_red_cell_px
    return min(card.target_red_cell_px / red_cell_px, 1.0 if is_visible else _MAX_UPSCALING)


def measure_red_cells(detections: Sequence[Detection], area_px: int, card: DetectorCard) -> RedCells:
    """Measure the confident red cells among the detections of an area in native pixels."""
    sides = measure_red_cells_px(detections, card)
    share = sum(side * side for side in sides) / max(area_px, 1)
    return RedCells(len(sides), float(np.median(sides)) if sides else 0.0, share)


def measure_red_cells_px(detections: Sequence[Detection], card: DetectorCard) -> list[float]:
    """Return the sides of the confident red cells, in native pixels."""
    boxes = [d.box for d in detections if d.object_class is ObjectClass.RED_CELL and d.score >= card.score_threshold]
    return [box.diameter_px for box in boxes]


def is_varied(rgb: NDArray[np.uint8]) -> bool:
    """Return whether a part of a field, (H, W, 3) uint8 RGB, is not glass."""
    return float(rgb[::8, ::8, 1].std()) > _MIN_VARIED_STD


def _consist_of_smaller(
    field: Field, detections: Sequence[Detection], shown: RedCells, card: DetectorCard, detect_at: DetectAt
) -> bool:
    """Return whether what looks like red cells from afar are round parts of a smear, full of red cells."""
    half = card.input_long_side_px // 4  # a small part is enough, and a quarter of the time
    red_cells = [d for d in detections if d.object_class is ObjectClass.RED_CELL][:_SAMPLES]
    centers = [(round(x), round(y)) for x, y in (d.box.center for d in red_cells)]
    parts = [field.rgb[max(0, y - half) : y + half, max(0, x - half) : x + half] for x, y in centers]
    inside = _measure_best_parts(field, parts, 1.0, card, detect_at)
    return inside.share >= _MIN_SHARE and inside.side_px < _MAX_SIZE_RATIO * shown.side_px


def _find_red_cell_px(field: Field, max_whole_scale: float, card: DetectorCard, detect_at: DetectAt) -> float | None:
    """Return the side of the red cells in native pixels; None if no scale shows any, as on glass."""
    scale, scales = 1.0, []
    while scale > max_whole_scale:
        scales.append(scale)
        scale /= _STEP
    best = max((_try_scale(field, s, card, detect_at) for s in scales), key=lambda red_cells: red_cells.share)
    if best.share >= _MIN_SHARE:
        return best.side_px
    upscaled = _try_scale(field, _MAX_UPSCALING, card, detect_at)
    if upscaled.share < _MIN_SHARE:
        return None
    return _check_visible(upscaled.side_px, card)


def _check_visible(side_px: float, card: DetectorCard) -> float:
    """Return the side of red cells that can be seen if they are magnified; raise CellsTooSmall of smaller ones."""
    if side_px * _MAX_UPSCALING < _VISIBLE_FRACTION * card.min_red_cell_px:
        raise CellsTooSmall(
            f"its red cells measure about {side_px:.0f} pixels, too few to see the cells by; photograph or export it "
            f"so that they measure {card.min_red_cell_px:.0f} or more"
        )
    return side_px


def _try_scale(field: Field, scale: float, card: DetectorCard, detect_at: DetectAt, n_parts: int = PARTS) -> RedCells:
    """Detect objects in some parts of a field that are not glass, and measure its red cells."""
    height, width = field.rgb.shape[:2]
    side = round(card.input_long_side_px / scale)
    places = choose_places(width, height, side, PLACES_PER_SIDE)
    parts = [field.rgb[y : y + side, x : x + side] for x, y in places]
    varied = [part for part in parts if is_varied(part)]
    indices = np.linspace(0, len(varied) - 1, min(len(varied), n_parts)).round().astype(int).tolist()
    return _measure_best_parts(field, [varied[i] for i in indices], scale, card, detect_at)


def _measure_best_parts(
    field: Field, parts: Sequence[NDArray[np.uint8]], scale: float, card: DetectorCard, detect_at: DetectAt
) -> RedCells:
    """Detect objects in some parts, and measure the red cells of the half that shows most."""
    found = [(detect_at(Field(field.name, part), scale), part.shape[0] * part.shape[1]) for part in parts]
    found.sort(key=lambda part: -measure_red_cells(part[0], part[1], card).share)
    best = found[: (len(found) + 1) // 2]
    return measure_red_cells([d for detections, _ in best for d in detections], sum(area for _, area in best), card)

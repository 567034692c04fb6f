"""Tiles of a field that is too large to be looked at whole. Geometry alone: no pixel is read.

Tiles overlap, so that a cell that the border of one tile cuts lies whole in the next. Their cores do not overlap: a
cell belongs to the tile whose core holds its center.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wbctool.types.cells import Box, Detection

CONTAINMENT_THRESHOLD = 0.75  # a box with a larger share inside a better one is a part of the same cell
_BORDER_FRACTION = 0.03  # a box that ends within this fraction of its side of the field's edge counts as cut off


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a field.

    Attributes:
        frame: What is looked at.
        core: The part of the frame whose cells belong to the tile.
        margin_px: How far the frame reaches beyond the core, except at the field's border, in pixels.
    """

    frame: Box
    core: Box
    margin_px: int


def divide_into_tiles(
    width: int, height: int, side_px: float, margin_px: float, step_px: float = 1.0
) -> tuple[Tile, ...]:
    """Divide a field into tiles of about the same size.

    If the tiles begin at multiples of the coarsest step of a network, it sees in them what it sees in the whole field.

    Args:
        width: Width of the field in pixels.
        height: Height of the field in pixels.
        side_px: The longest side of a tile, in pixels.
        margin_px: How far a tile reaches beyond its core at least, except at the field's border, in pixels.
        step_px: Tiles begin at multiples of it, in pixels.

    Returns:
        The tiles, row by row. Their cores cover each pixel once.
    """
    margin = round(math.ceil(margin_px / step_px) * step_px)
    columns, rows = (_divide_side(length, side_px, margin, step_px) for length in (width, height))
    return tuple(
        Tile(
            frame=_intersect(column - margin, row - margin, next_column + margin, next_row + margin, width, height),
            core=Box(column, row, next_column - column, next_row - row),
            margin_px=margin,
        )
        for row, next_row in itertools.pairwise(rows)
        for column, next_column in itertools.pairwise(columns)
    )


def merge_tiles(
    found: Iterable[tuple[Tile, Sequence[Detection]]],
    width: int,
    height: int,
    slack_px: float,
    iou_threshold: float,
) -> list[Detection]:
    """Put together what was found in overlapping tiles, each object once.

    Two tiles may see the center of an object on a seam on different sides of it. So a tile also gets what lies up to
    ``slack_px`` outside its core, unless an earlier tile has it. Only objects in overlaps are compared, each with those
    of the tiles around.

    Args:
        found: The tiles, in order, each with its detections of one or more classes, in pixels of its frame.
        width: Width of the field in pixels.
        height: Height of the field in pixels.
        slack_px: How far the centers of the same object may differ, in pixels.
        iou_threshold: The highest IoU of two objects of a class.

    Returns:
        The objects in pixels of the field. They are marked as cut if the border of the field cuts them.
    """
    merged: list[Detection] = []
    seen: list[tuple[Box, list[Detection]]] = []
    for tile, detections in found:
        placed = [place_detection(d, tile.frame, width, height) for d in detections]
        near = [others for frame, others in seen if frame.intersection(tile.frame)]
        known = [d for others in near for d in others if d.box.intersection(tile.frame)]
        new = _drop_known([d for d in placed if holds_center(tile.core, d, slack_px)], known, iou_threshold)
        merged += new
        seen.append((tile.frame, [d for d in new if not holds_center(tile.core, d, -tile.margin_px)]))
    return merged


def choose_places(width: int, height: int, side_px: int, max_per_side: int) -> list[tuple[int, int]]:
    """Return the top left corners (x, y) of squares that are spread evenly over a field, row by row."""

    def spread(length: int) -> list[int]:
        count = max(1, min(max_per_side, length // side_px))
        return [round(i * (length - side_px) / max(1, count - 1)) for i in range(count)]

    return [(max(0, x), max(0, y)) for y in spread(height) for x in spread(width)]


def is_cut(x0: float, y0: float, x1: float, y1: float, width: int, height: int) -> bool:
    """Return whether the border of a field cuts a box, in pixels of the field."""
    margin = _BORDER_FRACTION * max(x1 - x0, y1 - y0)
    return x0 < margin or y0 < margin or x1 > width - margin or y1 > height - margin


def is_same_object(one: Box, other: Box, iou_threshold: float) -> bool:
    """Return whether two boxes are of the same object, or one of a part of it.

    Args:
        one: A box.
        other: Another.
        iou_threshold: The highest IoU of two objects.
    """
    shared = one.intersection(other)
    shared_px = shared.area if shared else 0
    return one.iou(other) > iou_threshold or shared_px > CONTAINMENT_THRESHOLD * min(one.area, other.area)


def _divide_side(length: int, side_px: float, margin_px: int, step_px: float) -> list[int]:
    """Return where the cores of the tiles along one side of the field begin, and where the last ends."""
    if length <= side_px:
        return [0, length]
    count = math.ceil(length / max(side_px - 2 * margin_px - step_px, step_px))
    return [*(round(round(i * length / count / step_px) * step_px) for i in range(count)), length]


def _intersect(x0: int, y0: int, x1: int, y1: int, width: int, height: int) -> Box:
    """Return the part of a box that lies in the field."""
    left, top = max(0, x0), max(0, y0)
    return Box(left, top, min(width, x1) - left, min(height, y1) - top)


def place_detection(detection: Detection, frame: Box, width: int, height: int) -> Detection:
    """Return a detection of a tile in pixels of the field; it is marked as cut if the border of the field cuts it."""
    box = replace(detection.box, x=detection.box.x + frame.x, y=detection.box.y + frame.y)
    cut = detection.cut_by_border and is_cut(
        box.x - 0.5, box.y - 0.5, box.x + box.width + 0.5, box.y + box.height + 0.5, width, height
    )
    return replace(detection, box=box, cut_by_border=cut)


def holds_center(core: Box, detection: Detection, slack_px: float) -> bool:
    """Return whether the center of a detection lies in a core, or at most ``slack_px`` outside it."""
    x, y = detection.box.center
    return (
        core.x - slack_px <= x < core.x + core.width + slack_px
        and core.y - slack_px <= y < core.y + core.height + slack_px
    )


def _drop_known(detections: Sequence[Detection], known: Sequence[Detection], iou_threshold: float) -> list[Detection]:
    """Leave out the detections that are a known object of their class."""
    boxes = np.array([(d.box.x, d.box.y, d.box.width, d.box.height) for d in detections], np.int64).reshape(-1, 4)
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    is_known = np.zeros(len(boxes), dtype=bool)
    for other in known:
        box = other.box
        near = (left < box.x + box.width) & (right > box.x) & (top < box.y + box.height) & (bottom > box.y)
        for index in np.flatnonzero(near).tolist():
            detection = detections[index]
            is_known[index] |= other.object_class is detection.object_class and is_same_object(
                box, detection.box, iou_threshold
            )
    return [d for d, drop in zip(detections, is_known.tolist(), strict=True) if not drop]

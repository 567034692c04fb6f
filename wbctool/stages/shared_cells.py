"""White cells that two photographs show: which of them are one cell, and which of its photographs is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wbctool.stages.field_overlap import FieldView, Overlap, find_overlaps
from wbctool.stages.tiles import is_same_object
from wbctool.types.cells import Box, Detection
from wbctool.types.results import FieldThumbnail

_MAX_IOU = 0.4  # of two cells, of what the shared zone shows of them


def find_repeated_cells(
    fields: Sequence[str], detections: Sequence[Detection], thumbnails: Sequence[FieldThumbnail]
) -> dict[int, int]:
    """Find the cells of a slide that another of its fields shows, too.

    Of the photographs of one cell, one is kept that the border does not cut; else the one that shows most of it. Among
    equals it is that of the first field.

    Args:
        fields: The field of each cell of a slide, in order.
        detections: The cells.
        thumbnails: The thumbnails of the fields with cells, in order.

    Returns:
        For each cell that need not be kept, the cell of another field that is, both by their index.
    """
    indices_by_field: dict[str, list[int]] = {}
    for index, field in enumerate(fields):
        indices_by_field.setdefault(field, []).append(index)
    shown = [thumbnail for thumbnail in thumbnails if thumbnail.name in indices_by_field]
    indices = [indices_by_field[thumbnail.name] for thumbnail in shown]
    cells = [[detections[index] for index in field] for field in indices]
    views = [FieldView(view, tuple(c.box for c in field)) for view, field in zip(shown, cells, strict=True)]
    pairs = [
        (indices[overlap.first][one], indices[overlap.second][other])
        for overlap in find_overlaps(views)
        for one, other in match_cells(cells[overlap.first], cells[overlap.second], overlap, shown[overlap.first])
    ]
    kept = _choose(detections, pairs)
    return {index: other for index, other in kept.items() if fields[index] != fields[other]}


def match_cells(
    first: Sequence[Detection], second: Sequence[Detection], overlap: Overlap, field: FieldThumbnail
) -> list[tuple[int, int]]:
    """Match the photographs of the same cells in two fields, each at most once.

    Only what the border of a field has cut may be one of several parts of a cell of the other field.

    Args:
        first: The cells of the first field.
        second: The cells of the second field.
        overlap: How far the second field was moved.
        field: The first field, for the size of both.

    Returns:
        Pairs of an index in ``first`` and one in ``second``, in order.
    """
    dx, dy = round(overlap.dx_px), round(overlap.dy_px)
    zone = Box(max(0, dx), max(0, dy), field.width - abs(dx), field.height - abs(dy))
    ones = [cell.box.intersection(zone) for cell in first]
    others = [replace(cell.box, x=cell.box.x + dx, y=cell.box.y + dy).intersection(zone) for cell in second]
    same = [
        (one.iou(other), i, k)
        for i, one in enumerate(ones)
        for k, other in enumerate(others)
        if one is not None and other is not None and is_same_object(one, other, _MAX_IOU)
    ]
    pairs: list[tuple[int, int]] = []
    for _, i, k in sorted(same, key=lambda pair: (-pair[0], pair[1], pair[2])):
        is_new_one, is_new_other = all(i != a for a, _ in pairs), all(k != b for _, b in pairs)
        is_part = (is_new_one and first[i].cut_by_border) or (is_new_other and second[k].cut_by_border)
        if (is_new_one and is_new_other) or is_part:
            pairs.append((i, k))
    return sorted(pairs)


def _choose(detections: Sequence[Detection], pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the best photograph for each photograph of a cell, from pairs that show the same cell."""
    best: dict[int, int] = {}

    def find_best(index: int) -> int:
        while best.setdefault(index, index) != index:
            index = best[index]
        return index

    for pair in pairs:
        better, worse = sorted(map(find_best, pair), key=lambda index: (_rank(detections[index]), index))
        best[worse] = better
    return {index: find_best(index) for index in sorted(best)}


def _rank(detection: Detection) -> tuple[bool, int]:
    """Return what orders the photographs of a cell, the best first."""
    shown_px = detection.box.area if detection.cut_by_border else 0
    return detection.cut_by_border, -shown_px

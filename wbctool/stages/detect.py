"""Finding the white cells of a field with the learned detector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.cards import DetectorCard
from wbctool.onnx_model import OnnxModel
from wbctool.records import Box, Detection, Field, Target
from wbctool.stages.nuclei import find_cells_by_nuclei
from wbctool.stages.shrink import shrink

_ENOUGH_RED_CELLS = 3  # for a glance to be trusted: it takes a clump of tiny cells for a large one
_CLOSER_LOOKS = 2  # at most
_MAX_LONG_SIDE_PX = 2560  # a closer look at a huge field stays within memory and a second of time
_BORDER_SHARE = 0.03  # of the box's side: an edge this near the field's edge counts as cut off there
_NUCLEUS_OVERLAP = 0.5  # IoU of a faint cell and what its nucleus says the cell is
_CONTAINED = 0.75  # a box of which this share lies in a better one is a part of the same cell

Floats = NDArray[np.float32]


def detect_cells(field: Field, model: OnnxModel[DetectorCard]) -> tuple[Detection, ...]:
    """The nucleated cells of a field, whole cells in native pixels, in reading order (by top edge, then left).

    Cells cut by the field's border are kept and marked. What the cells are is for the classifier to say.
    """
    return tuple(d for d in detect_all_cells(field, model) if d.target is Target.NUCLEATED)


def detect_all_cells(field: Field, model: OnnxModel[DetectorCard]) -> tuple[Detection, ...]:
    """As :func:`detect_cells`, the red cells among them."""
    found = [d for d in detect_objects(field, model) if d.target is not Target.PLATELET]
    cells = without_doubtful(found, field, model.card)
    return tuple(sorted(cells, key=lambda d: (d.box.y, d.box.x, d.box.width, d.box.height)))


def without_doubtful(found: Iterable[Detection], field: Field, card: DetectorCard) -> list[Detection]:
    """Those above the card's threshold, and faint nucleated cells that have a nucleus.

    In a stain that it was not trained on the detector finds the cells but trusts itself less. What the field itself
    says of nuclei tells them from faint red cells and platelets; it is asked only where there is a faint cell.
    """
    found = list(found)
    sure = [d for d in found if d.score >= card.score_threshold]
    if card.faint_threshold is None:
        return sure
    faint = [
        d for d in found if d.target is Target.NUCLEATED and card.faint_threshold <= d.score < card.score_threshold
    ]
    if not faint:
        return sure
    nuclei = find_cells_by_nuclei(field, float(np.median([d.box.side_px for d in faint])))
    return sure + [d for d in faint if any(d.box.iou(n.box) >= _NUCLEUS_OVERLAP for n in nuclei)]


def detect_objects(field: Field, model: OnnxModel[DetectorCard], min_score: float = 0.1) -> tuple[Detection, ...]:
    """Nucleated cells, red cells and platelets above ``min_score``, best first.

    A glance at few pixels is enough where it shows large red cells. Else the field is looked at as in training, and
    closer where its red cells are small in it, so that its size in pixels does not matter. Closer once more where they
    turn out smaller yet: from afar a clump may look like a cell. Where no red cell is sure, everything may be too small
    to be seen: then a closer look is a trial, which holds if it shows what the one before did not.
    """
    card = model.card
    long_side_px = max(field.rgb.shape[:2])
    if card.glance_px:
        scale = card.glance_px / long_side_px
        found = _look(field, model, scale, min_score)
        sides_px = _red_cell_sides_px(found, card)
        if len(sides_px) >= _ENOUGH_RED_CELLS and np.median(sides_px) * scale >= card.red_cell_min_px:
            return found
    scale = card.long_side_px / long_side_px
    found = seen = _look(field, model, scale, min_score)
    for _ in range(_CLOSER_LOOKS):
        closer = _closer_scale(seen, scale, long_side_px, card)
        if closer is None:
            break
        scale, seen = closer, _look(field, model, closer, min_score)
        if _red_cell_sides_px(found, card) or _shows_more(seen, found, card):
            found = seen
    return found


def _shows_more(closer: Sequence[Detection], found: Sequence[Detection], card: DetectorCard) -> bool:
    """Whether a trial look shows red cells, or anything sure where nothing was. A large cell would show in pieces."""
    sure, before = (sum(d.score >= card.score_threshold for d in look) for look in (closer, found))
    return (
        not found
        or len(_red_cell_sides_px(closer, card)) >= _ENOUGH_RED_CELLS
        or (sure >= _ENOUGH_RED_CELLS and not before)
    )


def _closer_scale(seen: Sequence[Detection], scale: float, long_side_px: int, card: DetectorCard) -> float | None:
    """The scale at which red cells measure what the detector likes best; None where another look would not help."""
    sides_px = _red_cell_sides_px(seen, card)
    red_cell_px = float(np.median(sides_px)) * scale if sides_px else card.red_cell_min_px / 2
    if red_cell_px >= card.red_cell_min_px:
        return None
    closer = min(scale * card.red_cell_px / red_cell_px, 1.0, _MAX_LONG_SIDE_PX / long_side_px)
    return closer if closer > 1.2 * scale else None


def _red_cell_sides_px(found: Sequence[Detection], card: DetectorCard) -> list[float]:
    """Of the sure red cells, in native pixels."""
    sure = [d.box for d in found if d.target is Target.RED_CELL and d.score >= card.score_threshold]
    return [(box.width * box.height) ** 0.5 for box in sure]


def _look(field: Field, model: OnnxModel[DetectorCard], scale: float, min_score: float) -> tuple[Detection, ...]:
    card = model.card
    height, width = field.rgb.shape[:2]
    scaled_size = max(1, round(width * scale)), max(1, round(height * scale))
    scaled = shrink(field.rgb, *scaled_size) if scale < 1 else cv2.resize(field.rgb, scaled_size)
    right, below = (-size % card.multiple_px for size in scaled_size)
    padded = cv2.copyMakeBorder(scaled, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    heat, sides = (output[0] for output in model.run(padded[None]))
    found: list[Detection] = []
    for channel, target in enumerate(card.targets):
        boxes, scores = _read_peaks(heat[channel], sides, card.stride, min_score)
        kept = suppress(boxes, scores, card.max_overlap)
        found += _in_native_pixels(boxes[kept] / scale, scores[kept], target, (width, height))
    return tuple(sorted(found, key=lambda d: -d.score))


def _read_peaks(heat: Floats, sides: Floats, stride: int, min_score: float) -> tuple[Floats, Floats]:
    """Local maxima of a heat map -> boxes (n, 4) as x0, y0, x1, y1 in scaled pixels, scores (n,)."""
    peaks = (heat >= cv2.dilate(heat, np.ones((3, 3), np.uint8))) & (heat >= min_score)
    rows, columns = np.nonzero(peaks)
    left, top, right, bottom = sides[:, rows, columns]
    x, y = (columns + 0.5) * stride, (rows + 0.5) * stride
    boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1).astype(np.float32)
    return boxes, heat[rows, columns]


def suppress(boxes: Floats, scores: Floats, max_overlap: float) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best first: greedy suppression by IoU, and of boxes that lie within a better one.

    boxes: (n, 4) as x0, y0, x1, y1; max_overlap: the highest IoU two kept boxes may have.
    """
    order = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes[order].T
    areas = (x1 - x0).clip(0) * (y1 - y0).clip(0)
    dropped = np.zeros(len(order), dtype=bool)
    for best in range(len(order) - 1):
        if dropped[best]:
            continue
        rest = slice(best + 1, None)
        shared = (np.minimum(x1[rest], x1[best]) - np.maximum(x0[rest], x0[best])).clip(0)
        shared *= (np.minimum(y1[rest], y1[best]) - np.maximum(y0[rest], y0[best])).clip(0)
        union = areas[rest] + areas[best] - shared
        dropped[rest] |= (shared > max_overlap * union) | (shared > _CONTAINED * areas[rest])
    return np.asarray(order[~dropped], dtype=np.intp)


def _in_native_pixels(boxes: Floats, scores: Floats, target: Target, size: tuple[int, int]) -> Iterable[Detection]:
    width, height = size
    for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores.tolist(), strict=True):
        margin = _BORDER_SHARE * max(x1 - x0, y1 - y0)
        cut = x0 < margin or y0 < margin or x1 > width - margin or y1 > height - margin
        left, top = max(0, round(x0)), max(0, round(y0))
        right, bottom = min(width, round(x1)), min(height, round(y1))
        if right > left and bottom > top:
            yield Detection(Box(left, top, right - left, bottom - top), score, cut, target)

"""Detection of the cells of a field: an anchor-free center-point detector, applied from coarse to fine, or by tiles.

The heat map and box distances follow CenterNet (Zhou et al. 2019, arXiv 1904.07850) and FCOS (Tian et al. 2019, arXiv
1904.01355).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.imaging.resize import downscale
from wbctool.inference.model_card import DetectorCard
from wbctool.inference.session import HEAT, SIDES, OnnxModel
from wbctool.stages.nucleus_segmentation import find_cells_by_nuclei
from wbctool.stages.red_cell_size import DetectAt, choose_tile_scale, find_small_red_cells_px, measure_red_cells_px
from wbctool.stages.tiles import CONTAINMENT_THRESHOLD, Tile, divide_into_tiles, is_cut, merge_tiles
from wbctool.types.arrays import FloatArray
from wbctool.types.cells import Box, Detection, Field, ObjectClass
from wbctool.types.progress import Progress, no_progress

_MIN_RED_CELLS = 3  # fewer do not show the scale: a coarse pass may take a clump of tiny cells for one large cell
MIN_SCORE = 0.1  # of proposals
_MAX_REFINEMENTS = 2
MAX_LONG_SIDE_PX = 2560  # bounds the memory and the time (about a second) of a pass over a whole field
_NUCLEUS_IOU = 0.5  # the smallest IoU of a low-score cell and the cell that its nucleus suggests
_TILE_FRACTION = 0.6  # a tile's side, as a share of the longest side of a pass over a whole field
_MARGIN_RED_CELLS = 2.5  # how far a tile reaches beyond its core: no cell is longer than five red cells
_SLACK_RED_CELLS = 0.25  # how far two tiles may disagree about the center of a cell

_Filter = Callable[[Sequence[Detection], Field], Iterable[Detection]]


def detect_cells(field: Field, model: OnnxModel[DetectorCard]) -> tuple[Detection, ...]:
    """Detect the nucleated cells of a field. The classifier decides what they are.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        model: The detector.

    Returns:
        The cells, in reading order (by top edge, then left edge). Their boxes hold whole cells, in whole native pixels.
        Cells that the field's border cuts are kept and marked.

    Raises:
        CellsTooSmall: As :func:`detect_blood_cells`.
    """
    return tuple(d for d in detect_blood_cells(field, model) if d.object_class is ObjectClass.NUCLEATED)


def detect_blood_cells(
    field: Field,
    model: OnnxModel[DetectorCard],
    progress: Progress = no_progress,
    max_long_side_px: int = MAX_LONG_SIDE_PX,
) -> tuple[Detection, ...]:
    """Detect nucleated and red cells, both in one list; see :func:`detect_cells`.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        model: The detector.
        progress: Shows how many tiles of a large field are done.
        max_long_side_px: The longest side of a pass over the whole field, in scaled pixels.

    Returns:
        The cells, in reading order.

    Raises:
        CellsTooSmall: The field is large, and its cells are too small to be seen.
    """

    def keep(detections: Sequence[Detection], part: Field) -> list[Detection]:
        return filter_by_score((d for d in detections if d.object_class is not ObjectClass.PLATELET), part, model.card)

    cells = _detect(field, model, MIN_SCORE, keep, progress, max_long_side_px)
    return tuple(sorted(cells, key=lambda d: (d.box.y, d.box.x, d.box.width, d.box.height)))


def filter_by_score(detections: Iterable[Detection], field: Field, card: DetectorCard) -> list[Detection]:
    """Keep the detections that the field supports.

    On unfamiliar stains the detector's scores are low. A low-score nucleated cell is kept if classical nucleus
    segmentation confirms it; the segmentation runs only if there is such a cell.

    Args:
        detections: The detections of one field.
        field: The field.
        card: The detector's card, with the two thresholds.

    Returns:
        The detections above ``score_threshold``, then the confirmed ones above ``low_score_threshold``.
    """
    detections = list(detections)
    confident = [d for d in detections if d.score >= card.score_threshold]
    if card.low_score_threshold is None:
        return confident
    low_score = [
        d
        for d in detections
        if d.object_class is ObjectClass.NUCLEATED and card.low_score_threshold <= d.score < card.score_threshold
    ]
    if not low_score:
        return confident
    nuclei = find_cells_by_nuclei(field, float(np.median([d.box.longer_side_px for d in low_score])))
    return confident + [d for d in low_score if any(d.box.iou(n.box) >= _NUCLEUS_IOU for n in nuclei)]


def detect_objects(field: Field, model: OnnxModel[DetectorCard], min_score: float = MIN_SCORE) -> tuple[Detection, ...]:
    """Detect nucleated cells, red cells and platelets, from coarse to fine.

    The first pass is at ``preview_px``; it is enough if its red cells are large. Otherwise a pass at the training
    resolution follows, and at most two finer ones, in which red cells measure ``target_red_cell_px``. So the result
    does not depend on the field's size in pixels. Two finer passes are needed because a coarse pass may take a clump
    for a cell. If no red cell is found, all cells may be too small to be detected; then a finer pass is a trial, and
    its result is used only if it shows what the pass before did not.

    A field whose red cells the finest pass does not show for sure is looked at in tiles: a large one at a finer scale,
    a small one magnified.

    Args:
        field: The field, (H, W, 3) uint8 RGB.
        model: The detector.
        min_score: The smallest score, in [0, 1].

    Returns:
        The detections in native pixels, by falling score.

    Raises:
        CellsTooSmall: As :func:`detect_blood_cells`.
    """
    objects = _detect(field, model, min_score, lambda detections, _: detections, no_progress, MAX_LONG_SIDE_PX)
    return tuple(sorted(objects, key=lambda d: -d.score))


def _detect(
    field: Field,
    model: OnnxModel[DetectorCard],
    min_score: float,
    keep: _Filter,
    progress: Progress,
    max_long_side_px: int,
) -> Iterable[Detection]:
    """Detect objects in the whole field or, if it must be, by tiles; ``keep`` chooses among those of each look."""
    card = model.card
    detections, scale = _detect_from_coarse_to_fine(field, model, min_score, max_long_side_px)
    max_whole_scale = max_long_side_px / max(field.rgb.shape[:2])

    def detect_at(part: Field, part_scale: float) -> tuple[Detection, ...]:
        return _detect_at_scale(part, model, part_scale, min_score)

    red_cell_px = find_small_red_cells_px(field, detections, scale, max_whole_scale, card, detect_at)
    if red_cell_px is None:
        return keep(detections, field)
    return _detect_in_tiles(field, detect_at, keep, progress, red_cell_px, _TILE_FRACTION * max_long_side_px, card)


def _detect_from_coarse_to_fine(
    field: Field, model: OnnxModel[DetectorCard], min_score: float, max_long_side_px: int
) -> tuple[tuple[Detection, ...], float]:
    """Detect objects in the whole field; return also the scale of the look that is used."""
    card = model.card
    long_side_px = max(field.rgb.shape[:2])
    if card.preview_px:
        scale = card.preview_px / long_side_px
        detections = _detect_at_scale(field, model, scale, min_score)
        sides_px = measure_red_cells_px(detections, card)
        if len(sides_px) >= _MIN_RED_CELLS and np.median(sides_px) * scale >= card.min_red_cell_px:
            return detections, scale
    used_scale = scale = card.input_long_side_px / long_side_px
    detections = latest = _detect_at_scale(field, model, scale, min_score)
    for _ in range(_MAX_REFINEMENTS):
        refined_scale = _refined_scale(latest, scale, long_side_px, card, max_long_side_px)
        if refined_scale is None:
            break
        scale, latest = refined_scale, _detect_at_scale(field, model, refined_scale, min_score)
        if measure_red_cells_px(detections, card) or _finds_more(latest, detections, card):
            detections, used_scale = latest, scale
    return detections, used_scale


def _detect_in_tiles(
    field: Field,
    detect_at: DetectAt,
    keep: _Filter,
    progress: Progress,
    red_cell_px: float,
    tile_px: float,
    card: DetectorCard,
) -> list[Detection]:
    """Detect objects tile by tile, at the scale that the red cells need; ``tile_px`` is a tile's side at that scale."""
    height, width = field.rgb.shape[:2]
    scale = choose_tile_scale(red_cell_px, card)
    margin_px, step_px = _MARGIN_RED_CELLS * red_cell_px, card.size_divisor / scale
    tiles = divide_into_tiles(width, height, tile_px / scale, margin_px, step_px)

    def find() -> Iterator[tuple[Tile, list[Detection]]]:
        for tile in progress(tiles, len(tiles), "tiles"):
            x, y = tile.frame.x, tile.frame.y
            part = Field(field.name, field.rgb[y : y + tile.frame.height, x : x + tile.frame.width])
            yield tile, list(keep(detect_at(part, scale), part))

    return merge_tiles(find(), width, height, _SLACK_RED_CELLS * red_cell_px, card.nms_iou_threshold)


def _finds_more(refined: Sequence[Detection], previous: Sequence[Detection], card: DetectorCard) -> bool:
    """Return whether a trial pass finds red cells, or confident objects for the first time."""
    # A large cell would show as several objects in a pass that is too fine, so other new objects do not count.
    n_confident, n_confident_before = (
        sum(d.score >= card.score_threshold for d in detections) for detections in (refined, previous)
    )
    return (
        not previous
        or len(measure_red_cells_px(refined, card)) >= _MIN_RED_CELLS
        or (n_confident >= _MIN_RED_CELLS and not n_confident_before)
    )


def _refined_scale(
    detections: Sequence[Detection], scale: float, long_side_px: int, card: DetectorCard, max_long_side_px: int
) -> float | None:
    """Return the scale for red cells of ``target_red_cell_px``; None if another pass would not help."""
    sides_px = measure_red_cells_px(detections, card)
    red_cell_px = float(np.median(sides_px)) * scale if sides_px else card.min_red_cell_px / 2
    if red_cell_px >= card.min_red_cell_px:
        return None
    refined = min(scale * card.target_red_cell_px / red_cell_px, 1.0, max_long_side_px / long_side_px)
    return refined if refined > 1.2 * scale else None


def _detect_at_scale(
    field: Field, model: OnnxModel[DetectorCard], scale: float, min_score: float
) -> tuple[Detection, ...]:
    """Detect objects in a field that is resized by ``scale``; the boxes are in native pixels."""
    card = model.card
    height, width = field.rgb.shape[:2]
    scaled_size = max(1, round(width * scale)), max(1, round(height * scale))
    scaled = downscale(field.rgb, *scaled_size) if scale < 1 else cv2.resize(field.rgb, scaled_size)
    pad_x, pad_y = (-size % card.size_divisor for size in scaled_size)
    padded = cv2.copyMakeBorder(scaled, 0, pad_y, 0, pad_x, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    heatmaps, sides = (output[0] for output in model.run(padded[None], HEAT, SIDES))
    detections: list[Detection] = []
    for channel, object_class in enumerate(card.classes):
        boxes, scores = _read_peaks(heatmaps[channel], sides, card.stride, min_score)
        keep = non_max_suppression(boxes, scores, card.nms_iou_threshold)
        detections += _to_image_coordinates(boxes[keep] / scale, scores[keep], object_class, (width, height))
    return tuple(sorted(detections, key=lambda d: -d.score))


def _read_peaks(heatmap: FloatArray, sides: FloatArray, stride: int, min_score: float) -> tuple[FloatArray, FloatArray]:
    """Return boxes (n, 4) as x0, y0, x1, y1 in scaled pixels, and scores (n,), of the local maxima of a heat map."""
    peaks = (heatmap >= cv2.dilate(heatmap, np.ones((3, 3), np.uint8))) & (heatmap >= min_score)
    rows, columns = np.nonzero(peaks)
    left, top, right, bottom = sides[:, rows, columns]
    x, y = (columns + 0.5) * stride, (rows + 0.5) * stride
    boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1).astype(np.float32)
    return boxes, heatmap[rows, columns]


def non_max_suppression(boxes: FloatArray, scores: FloatArray, iou_threshold: float) -> NDArray[np.intp]:
    """Suppress boxes that overlap a better one too much, lie within it or hold it (greedy non-maximum suppression).

    Args:
        boxes: (n, 4) float32, as x0, y0, x1, y1.
        scores: (n,) float32.
        iou_threshold: The highest IoU of two boxes that are kept.

    Returns:
        The indices of the boxes to keep, by falling score.
    """
    order = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes[order].T
    areas = (x1 - x0).clip(0) * (y1 - y0).clip(0)
    suppressed = np.zeros(len(order), dtype=bool)
    for best in range(len(order) - 1):
        if suppressed[best]:
            continue
        rest = slice(best + 1, None)
        intersection = (np.minimum(x1[rest], x1[best]) - np.maximum(x0[rest], x0[best])).clip(0)
        intersection *= (np.minimum(y1[rest], y1[best]) - np.maximum(y0[rest], y0[best])).clip(0)
        union = areas[rest] + areas[best] - intersection
        suppressed[rest] |= (intersection > iou_threshold * union) | (
            intersection > CONTAINMENT_THRESHOLD * np.minimum(areas[rest], areas[best])
        )
    return np.asarray(order[~suppressed], dtype=np.intp)


def _to_image_coordinates(
    boxes: FloatArray, scores: FloatArray, object_class: ObjectClass, size: tuple[int, int]
) -> Iterable[Detection]:
    """Yield detections in whole native pixels, clipped to the field of ``size`` (width, height)."""
    width, height = size
    for (x0, y0, x1, y1), score in zip(boxes.tolist(), scores.tolist(), strict=True):
        left, top = max(0, round(x0)), max(0, round(y0))
        right, bottom = min(width, round(x1)), min(height, round(y1))
        if right > left and bottom > top:
            box = Box(left, top, right - left, bottom - top)
            yield Detection(box, score, is_cut(x0, y0, x1, y1, width, height), object_class)

"""Fields with boxes, as the detector trains on them: scaled, turned, tiled and recoloured canvases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from training.data.augment import affine, restain, vary_optics, vary_stain
from training.models.detector import STRIDE, TARGETS
from wbctool.lab.labelled import LabelledField
from wbctool.records import Target
from wbctool.stages.images import read_field

_TARGET_INDEX = {target: index for index, target in enumerate(Target)}
_RESTAINED_SHARE = 0.5  # of the canvases: cells are to be known by their shape in whatever colours
_VISIBLE_SHARE = 0.3  # an object of which less is left on the canvas is neither asked for nor punished


@dataclass(frozen=True, slots=True)
class DetectorTargets:
    """heat [3, h, w]; weight [3, h, w], 0 where nothing is asked; sides [4, h, w] px; positive [h, w] bool."""

    heat: Tensor
    weight: Tensor
    sides: Tensor
    positive: Tensor


@dataclass(frozen=True, slots=True)
class _Annotated:
    """rgb (H, W, 3) uint8; boxes (n, 5) float32: x0, y0, x1, y1, target's index."""

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float32]


class DetectorCanvases(Dataset[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]):
    """Square canvases of one field, or of four small ones, with the maps the detector learns.

    Items: rgb [3, S, S] uint8, then the four maps of DetectorTargets. Microscopes are drawn evenly,
    whatever their number of fields. An item depends on ``seed`` and its index alone.
    """

    def __init__(self, fields: Sequence[LabelledField], canvas_px: int, seed: int, length: int = 320) -> None:
        self.canvas_px, self.seed, self.length = canvas_px, seed, length
        origins = sorted({field.origin for field in fields})
        self._by_origin = [
            [_shrink(_annotate(field), 2 * canvas_px) for field in fields if field.origin == origin]
            for origin in origins
        ]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        scale = float(np.exp(rng.uniform(np.log(0.25), np.log(1.35))))
        if scale < 0.7 or rng.random() < 0.15:
            tiles = 2 if scale > 0.4 else 4
            canvas = _tile([self._draw(rng, scale, self.canvas_px // tiles) for _ in range(tiles * tiles)], tiles)
        else:
            canvas = self._draw(rng, scale, self.canvas_px)
        dyed = restain(canvas.rgb, rng) if rng.random() < _RESTAINED_SHARE else canvas.rgb
        rgb = vary_optics(vary_stain(dyed, rng, 1.4), rng)
        maps = draw_maps(canvas.boxes, self.canvas_px)
        image = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        return image, maps.heat, maps.weight, maps.sides, maps.positive

    def _draw(self, rng: Generator, scale: float, side_px: int) -> _Annotated:
        fields = self._by_origin[int(rng.integers(len(self._by_origin)))]
        field = fields[int(rng.integers(len(fields)))]
        fit = self.canvas_px / max(field.rgb.shape[:2])
        return _place(field, fit * scale * float(np.exp(rng.normal(0, 0.1))), side_px, rng)


def _annotate(field: LabelledField) -> _Annotated:
    boxes = [
        (b.box.x, b.box.y, b.box.x + b.box.width, b.box.y + b.box.height, _TARGET_INDEX[b.target]) for b in field.boxes
    ]
    return _Annotated(read_field(field.path).rgb, np.array(boxes, dtype=np.float32).reshape(-1, 5))


def _shrink(field: _Annotated, longest_px: int) -> _Annotated:
    scale = longest_px / max(field.rgb.shape[:2])
    if scale >= 1:
        return field
    rgb = cv2.resize(field.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return _Annotated(rgb, field.boxes * np.array([scale] * 4 + [1], dtype=np.float32))


def _place(field: _Annotated, scale: float, side_px: int, rng: Generator) -> _Annotated:
    """The field, scaled, turned and shifted onto a square; what it does not cover is filled."""
    height, width = field.rgb.shape[:2]
    quarter = int(rng.integers(4))
    tilt = float(rng.uniform(-15, 15)) if rng.random() < 0.3 else 0.0
    angle = np.deg2rad(90 * quarter + tilt)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1])
    centre = linear @ np.array([width / 2, height / 2])
    reach = np.abs(linear) @ np.array([width / 2, height / 2])
    slack = np.abs(reach - side_px / 2)
    shift = side_px / 2 - centre + rng.uniform(-1, 1, 2) * slack
    source, of_pixels = field.rgb, linear
    if scale < 0.6:  # warpAffine samples single pixels: take the average first where many fall on one
        source = cv2.resize(source, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
        of_pixels = linear / scale
    matrix = affine(of_pixels, shift)
    # Outside a field: black, as the copies of public sets have it, or glass.
    fill = (0.0, 0.0, 0.0) if rng.random() < 0.5 else tuple(np.percentile(source.reshape(-1, 3), 90, axis=0).tolist())
    rgb = cv2.warpAffine(source, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderValue=fill).astype(np.uint8)
    return _Annotated(rgb, _turn_boxes(field.boxes, linear, shift))


def _turn_boxes(
    boxes: NDArray[np.float32], linear: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Boxes after a turn: cells are round, so the box of the turned ellipse, not of the turned rectangle."""
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2 @ linear.T + shift
    halves = np.sqrt(((boxes[:, 2:4] - boxes[:, :2]) / 2) ** 2 @ (linear.T**2))
    return np.hstack([centres - halves, centres + halves, boxes[:, 4:]]).astype(np.float32)


def _tile(parts: list[_Annotated], tiles: int) -> _Annotated:
    side = parts[0].rgb.shape[0]
    rows = [np.hstack([p.rgb for p in parts[r * tiles : (r + 1) * tiles]]) for r in range(tiles)]
    boxes = []
    for number, part in enumerate(parts):
        offset = np.array([number % tiles, number // tiles] * 2, dtype=np.float32) * side
        clipped = part.boxes.copy()
        clipped[:, :4] = np.clip(clipped[:, :4], 0, side)
        whole = _area(part.boxes)
        seen = np.divide(_area(clipped), whole, out=np.zeros_like(whole), where=whole > 0)
        clipped[:, :4] += offset
        boxes.append(clipped[seen > 0.1])
    return _Annotated(np.vstack(rows), np.vstack(boxes))


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1)
    return areas


def draw_maps(boxes: NDArray[np.float32], canvas_px: int) -> DetectorTargets:
    """What the detector should say of a canvas. boxes: (n, 5) in pixels of the canvas, possibly reaching out of it."""
    grid = canvas_px // STRIDE
    heat = np.zeros((TARGETS, grid, grid), np.float32)
    weight = np.ones_like(heat)
    sides = np.zeros((4, grid, grid), np.float32)
    nearest = np.full((grid, grid), np.inf, np.float32)
    middle = (np.arange(grid, dtype=np.float32) + 0.5) * STRIDE
    for x0, y0, x1, y1, target in boxes[np.argsort(-_area(boxes))]:
        cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, canvas_px), min(y1, canvas_px)
        width, height = cx1 - cx0, cy1 - cy0
        if width <= 2 or height <= 2:
            continue
        share = width * height / ((x1 - x0) * (y1 - y0))
        channel = int(target)
        column, row = int((cx0 + cx1) / 2 // STRIDE), int((cy0 + cy1) / 2 // STRIDE)
        # The Gaussian is as wide as a centre may be off while the box still overlaps well: a sixth of the side.
        spread_x, spread_y = max(width / STRIDE / 6, 0.4), max(height / STRIDE / 6, 0.4)
        reach_x, reach_y = int(3 * spread_x) + 1, int(3 * spread_y) + 1
        columns = slice(max(0, column - reach_x), min(grid, column + reach_x + 1))
        rows = slice(max(0, row - reach_y), min(grid, row + reach_y + 1))
        across = (np.arange(columns.start, columns.stop) - column)[None, :] / spread_x
        down = (np.arange(rows.start, rows.stop) - row)[:, None] / spread_y
        distance = (across**2 + down**2).astype(np.float32)
        blob = np.exp(-distance / 2)
        if share < _VISIBLE_SHARE or min(width, height) < 5:
            weight[channel, rows, columns][blob > 0.05] = 0
            continue
        np.maximum(heat[channel, rows, columns], blob, out=heat[channel, rows, columns])
        x, y = np.meshgrid(middle[columns], middle[rows])
        here = (blob > 0.5) & (distance < nearest[rows, columns]) & (x > cx0) & (x < cx1) & (y > cy0) & (y < cy1)
        nearest[rows, columns][here] = distance[here]
        for side, value in zip(sides, (x - cx0, y - cy0, cx1 - x, cy1 - y), strict=True):
            side[rows, columns][here] = value[here]
    maps = (torch.from_numpy(m) for m in (heat, weight, sides, np.isfinite(nearest)))
    return DetectorTargets(*maps)

"""The detector's dataset: fields with boxes as scaled, rotated, tiled and recolored canvases."""

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

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledField
from wbctool.types.cells import ObjectClass
from wbctool_training.data.augment import affine_matrix, color_jitter, degrade_optics, random_stain, to_tensor
from wbctool_training.models.detector import N_CLASSES, STRIDE

_CLASS_INDEX = {object_class: index for index, object_class in enumerate(ObjectClass)}
_MIN_SCALE, _MAX_SCALE = 0.25, 1.35  # of a field's longer side to the canvas, log-uniform
_TILED_BELOW_SCALE = 0.7  # smaller fields do not fill a canvas, so 4 of them share it,
_SIXTEEN_BELOW_SCALE = 0.4  # or 16
_TILE_PROB = 0.15  # of a larger field to be cut and share a canvas, too
_STAIN_JITTER_PROB = 0.5  # of a random stain, so that the detector learns shapes rather than colors
_MIN_VISIBLE_FRACTION = 0.3  # an object with less on the canvas is ignored by the loss
_MIN_SIDE_PX, _MIN_LEARNED_SIDE_PX = 2, 5  # an object on the canvas that is no larger is left out, or ignored
_SPREADS_PER_SIDE = 6  # a center may be off by a sixth of the side while the box still overlaps well


@dataclass(frozen=True, slots=True)
class DetectionTargets:
    """The detector's targets for one canvas of S×S pixels; h = w = S / STRIDE.

    Attributes:
        heat: (3, h, w), 1 at the objects' centers and falling around them, one map per ObjectClass.
        weight: (3, h, w), the loss's weight; 0 around objects to be ignored.
        sides: (4, h, w), pixels from the location's center to the box's left, top, right and bottom side.
        positive: (h, w) bool, the locations that have a box.
    """

    heat: Tensor
    weight: Tensor
    sides: Tensor
    positive: Tensor


@dataclass(frozen=True, slots=True)
class _AnnotatedImage:
    """An image, (H, W, 3) uint8 RGB, and its boxes, (n, 5) float32: x0, y0, x1, y1 in pixels, class index."""

    rgb: NDArray[np.uint8]
    boxes: NDArray[np.float32]


class DetectionDataset(Dataset[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]):
    """Square canvases of one field, or of 4 or 16 smaller ones, with their targets.

    Items: rgb (3, S, S) uint8, then the four maps of DetectionTargets. Every microscope is sampled equally often,
    whatever its number of fields. An item depends on the seed and its index alone.

    Boxes follow cells as ellipses (:func:`_transform_boxes`), which torchvision.transforms.v2 cannot: it encloses the
    rotated rectangle, and boxes would be too large by up to 22 % at 15°.

    Args:
        fields: Fields with boxes.
        canvas_px: S.
        seed: The seed of all random numbers.
        length: Items in a validation epoch.
    """

    def __init__(self, fields: Sequence[LabelledField], canvas_px: int, seed: int, length: int = 320) -> None:
        self.canvas_px, self.seed, self.length = canvas_px, seed, length
        datasets = sorted({field.dataset for field in fields})
        self._by_dataset = [
            [_downscale(_load_annotated(field), 2 * canvas_px) for field in fields if field.dataset == dataset]
            for dataset in datasets
        ]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        scale = float(np.exp(rng.uniform(np.log(_MIN_SCALE), np.log(_MAX_SCALE))))
        if scale < _TILED_BELOW_SCALE or rng.random() < _TILE_PROB:
            tiles = 2 if scale > _SIXTEEN_BELOW_SCALE else 4
            canvas = _tile_images(
                [self._sample(rng, scale, self.canvas_px // tiles) for _ in range(tiles * tiles)], tiles
            )
        else:
            canvas = self._sample(rng, scale, self.canvas_px)
        stained = random_stain(canvas.rgb, rng) if rng.random() < _STAIN_JITTER_PROB else canvas.rgb
        rgb = degrade_optics(color_jitter(stained, rng, 1.4), rng)
        targets = make_targets(canvas.boxes, self.canvas_px)
        return to_tensor(rgb), targets.heat, targets.weight, targets.sides, targets.positive

    def _sample(self, rng: Generator, scale: float, side_px: int) -> _AnnotatedImage:
        """Return a random field of a random microscope at about ``scale``."""
        fields = self._by_dataset[int(rng.integers(len(self._by_dataset)))]
        field = fields[int(rng.integers(len(fields)))]
        fit_scale = self.canvas_px / max(field.rgb.shape[:2])
        return _apply_random_affine(field, fit_scale * scale * float(np.exp(rng.normal(0, 0.1))), side_px, rng)


def _load_annotated(field: LabelledField) -> _AnnotatedImage:
    """Read a field's pixels and boxes."""
    boxes = [
        (b.box.x, b.box.y, b.box.x + b.box.width, b.box.y + b.box.height, _CLASS_INDEX[b.object_class])
        for b in field.boxes
    ]
    return _AnnotatedImage(read_labelled_field(field.path).rgb, np.array(boxes, dtype=np.float32).reshape(-1, 5))


def _downscale(field: _AnnotatedImage, longest_px: int) -> _AnnotatedImage:
    """Reduce a field whose longer side exceeds ``longest_px``."""
    scale = longest_px / max(field.rgb.shape[:2])
    if scale >= 1:
        return field
    rgb = cv2.resize(field.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    return _AnnotatedImage(rgb, field.boxes * np.array([scale] * 4 + [1], dtype=np.float32))


def _apply_random_affine(field: _AnnotatedImage, scale: float, side_px: int, rng: Generator) -> _AnnotatedImage:
    """Scale, rotate, mirror and shift a field onto a square, and fill the rest."""
    height, width = field.rgb.shape[:2]
    n_quarters = int(rng.integers(4))
    tilt = float(rng.uniform(-15, 15)) if rng.random() < 0.3 else 0.0
    angle = np.deg2rad(90 * n_quarters + tilt)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1])
    center = linear @ np.array([width / 2, height / 2])
    half_extent = np.abs(linear) @ np.array([width / 2, height / 2])
    slack = np.abs(half_extent - side_px / 2)
    shift = side_px / 2 - center + rng.uniform(-1, 1, 2) * slack
    pixels, pixel_linear = field.rgb, linear
    if scale < 0.6:  # warpAffine samples single pixels, so average first
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
        pixel_linear = linear / scale
    matrix = affine_matrix(pixel_linear, shift)
    # Outside a field: black, as in the copies of public datasets, or the color of the background.
    fill = (0.0, 0.0, 0.0) if rng.random() < 0.5 else tuple(np.percentile(pixels.reshape(-1, 3), 90, axis=0).tolist())
    rgb = cv2.warpAffine(pixels, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderValue=fill).astype(np.uint8)
    return _AnnotatedImage(rgb, _transform_boxes(field.boxes, linear, shift))


def _transform_boxes(
    boxes: NDArray[np.float32], linear: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Transform boxes as those of ellipses, because cells are round: not the box of the rotated rectangle."""
    centers = (boxes[:, :2] + boxes[:, 2:4]) / 2 @ linear.T + shift
    half_sizes = np.sqrt(((boxes[:, 2:4] - boxes[:, :2]) / 2) ** 2 @ (linear.T**2))
    return np.hstack([centers - half_sizes, centers + half_sizes, boxes[:, 4:]]).astype(np.float32)


def _tile_images(images: list[_AnnotatedImage], tiles: int) -> _AnnotatedImage:
    """Join tiles×tiles images to one canvas, and drop boxes of which a tenth or less is visible."""
    side = images[0].rgb.shape[0]
    rows = [np.hstack([image.rgb for image in images[r * tiles : (r + 1) * tiles]]) for r in range(tiles)]
    boxes = []
    for number, image in enumerate(images):
        offset = np.array([number % tiles, number // tiles] * 2, dtype=np.float32) * side
        clipped = image.boxes.copy()
        clipped[:, :4] = np.clip(clipped[:, :4], 0, side)
        full_area = _box_area(image.boxes)
        visible = np.divide(_box_area(clipped), full_area, out=np.zeros_like(full_area), where=full_area > 0)
        clipped[:, :4] += offset
        boxes.append(clipped[visible > 0.1])
    return _AnnotatedImage(np.vstack(rows), np.vstack(boxes))


def _box_area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the boxes' areas in square pixels; 0 for an empty one."""
    areas: NDArray[np.float32] = np.clip(boxes[:, 2:4] - boxes[:, :2], 0, None).prod(axis=1)
    return areas


def make_targets(boxes: NDArray[np.float32], canvas_px: int) -> DetectionTargets:
    """Draw the targets of a canvas.

    Args:
        boxes: (n, 5) float32: x0, y0, x1, y1 in pixels of the canvas, class index; may extend beyond the canvas.
        canvas_px: Side of the canvas.

    Returns:
        The targets. Of overlapping boxes a location gets the one whose center is nearest, in units of its sides.
    """
    grid = canvas_px // STRIDE
    heat = np.zeros((N_CLASSES, grid, grid), np.float32)
    weight = np.ones_like(heat)
    sides = np.zeros((4, grid, grid), np.float32)
    nearest = np.full((grid, grid), np.inf, np.float32)
    centers = (np.arange(grid, dtype=np.float32) + 0.5) * STRIDE
    for x0, y0, x1, y1, class_index in boxes[np.argsort(-_box_area(boxes))]:
        cx0, cy0, cx1, cy1 = max(x0, 0), max(y0, 0), min(x1, canvas_px), min(y1, canvas_px)
        width, height = cx1 - cx0, cy1 - cy0
        if min(width, height) <= _MIN_SIDE_PX:
            continue
        visible_fraction = width * height / ((x1 - x0) * (y1 - y0))
        channel = int(class_index)
        column, row = int((cx0 + cx1) / 2 // STRIDE), int((cy0 + cy1) / 2 // STRIDE)
        # The widths of the Gaussian, in locations.
        spread_x = max(width / STRIDE / _SPREADS_PER_SIDE, 0.4)
        spread_y = max(height / STRIDE / _SPREADS_PER_SIDE, 0.4)
        reach_x, reach_y = int(3 * spread_x) + 1, int(3 * spread_y) + 1
        columns = slice(max(0, column - reach_x), min(grid, column + reach_x + 1))
        rows = slice(max(0, row - reach_y), min(grid, row + reach_y + 1))
        dx = (np.arange(columns.start, columns.stop) - column)[None, :] / spread_x
        dy = (np.arange(rows.start, rows.stop) - row)[:, None] / spread_y
        distance = (dx**2 + dy**2).astype(np.float32)
        blob = np.exp(-distance / 2)
        if visible_fraction < _MIN_VISIBLE_FRACTION or min(width, height) < _MIN_LEARNED_SIDE_PX:
            weight[channel, rows, columns][blob > 0.05] = 0
            continue
        np.maximum(heat[channel, rows, columns], blob, out=heat[channel, rows, columns])
        x, y = np.meshgrid(centers[columns], centers[rows])
        assigned = (blob > 0.5) & (distance < nearest[rows, columns]) & (x > cx0) & (x < cx1) & (y > cy0) & (y < cy1)
        nearest[rows, columns][assigned] = distance[assigned]
        for side, value in zip(sides, (x - cx0, y - cy0, cx1 - x, cy1 - y), strict=True):
            side[rows, columns][assigned] = value[assigned]
    return DetectionTargets(
        heat=torch.from_numpy(heat),
        weight=torch.from_numpy(weight),
        sides=torch.from_numpy(sides),
        positive=torch.from_numpy(np.isfinite(nearest)),
    )

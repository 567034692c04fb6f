"""Super-resolved cells for the classifier, made from few pixels as `wbctool run` makes them from small cells.

The paper and the default recipe train the classifier on original and super-resolved images.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from wbctool.enums import SuperResolve
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX, preprocess_crops, super_resolution_input_px
from wbctool.store.atomic_write import write_atomic
from wbctool.types.cells import Box, Crop
from wbctool_training.data.cell_index import CellRef, crop_cell

log = logging.getLogger(__name__)

_SIDES_PX = (24, 32, 40, 48, 56, 64)  # sides of a small cell's crop
_MARGIN_FACTOR = 1.12  # leaves room around the crop for the random variation of the box
_BATCH_SIZE = 96


def super_resolved_subset(
    cells: Sequence[CellRef],
    generator: OnnxModel[GeneratorCard],
    margin: float,
    fraction: float,
    cache_dir: Path,
    seed: int,
) -> list[CellRef]:
    """Make super-resolved copies of a random subset of cells, each reduced to a random side of 24 to 64 pixels first.

    Label, group and dataset stay the cell's, so a copy is in the same split.

    Args:
        cells: The cells.
        generator: The generator.
        margin: Side of the crop, relative to the box.
        fraction: Share of the cells, in [0, 1].
        cache_dir: Where the images are kept as PNG files.
        seed: The seed of the random choice.
    """
    rng = np.random.default_rng(seed)
    indices = sorted(rng.choice(len(cells), round(fraction * len(cells)), replace=False).tolist())
    sides_px = rng.choice(_SIDES_PX, len(indices)).tolist()
    return _super_resolve([cells[i] for i in indices], sides_px, generator, margin * _MARGIN_FACTOR, cache_dir)


def as_inference(
    cells: Sequence[CellRef], generator: OnnxModel[GeneratorCard], margin: float, cache_dir: Path
) -> list[CellRef]:
    """Replace the cells that ``--super-resolve auto`` would super-resolve by their super-resolved images.

    Args:
        cells: The cells.
        generator: The generator.
        margin: Side of the crop, relative to the box.
        cache_dir: Where the images are kept as PNG files.

    Returns:
        All cells, in order.
    """
    sides_px = [round(cell.box.longer_side_px * margin) for cell in cells]
    is_small = [super_resolution_input_px(side, SuperResolve.AUTO, generator.card) is not None for side in sides_px]
    super_resolved = iter(
        _super_resolve(
            [c for c, chosen in zip(cells, is_small, strict=True) if chosen],
            [s for s, chosen in zip(sides_px, is_small, strict=True) if chosen],
            generator,
            margin,
            cache_dir,
        )
    )
    return [next(super_resolved) if chosen else cell for cell, chosen in zip(cells, is_small, strict=True)]


def _super_resolve(
    cells: Sequence[CellRef],
    sides_px: Sequence[int],
    generator: OnnxModel[GeneratorCard],
    margin: float,
    cache_dir: Path,
) -> list[CellRef]:
    """Return cells as 128×128 PNG images in ``cache_dir``, which are only made if they are missing."""
    paths = [cache_dir / f"{_cache_key(c, s, margin)}.png" for c, s in zip(cells, sides_px, strict=True)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        log.info("super-resolving %d of %d cells", len(missing), len(cells))
    for start in range(0, len(missing), _BATCH_SIZE):
        batch = missing[start : start + _BATCH_SIZE]
        crops = [Crop(resize_square(crop_cell(cells[i], margin), sides_px[i])) for i in batch]
        for i, rgb in zip(batch, preprocess_crops(crops, generator, SuperResolve.AUTO).rgb, strict=True):
            write_atomic(paths[i], cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())
    side = round(CLASSIFIER_INPUT_PX / margin)
    corner = (CLASSIFIER_INPUT_PX - side) // 2
    full_box = Box(corner, corner, side, side)
    return [replace(cell, path=path, box=full_box) for cell, path in zip(cells, paths, strict=True)]


def _cache_key(cell: CellRef, side_px: int, margin: float) -> str:
    """Return a file name for a cell that was reduced to ``side_px``."""
    text = f"{cell.path}|{cell.box}|{side_px}|{margin:g}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:20]

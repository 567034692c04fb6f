"""Cells as `wbctool run` shows the small ones to the classifier: few pixels, brought back by the generator.

The paper trains its classifier on originals plus super-resolved images; so does the default recipe.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from training.data.cells import CellSample, cut_cell
from wbctool.cards import GeneratorCard
from wbctool.choices import SuperResolve
from wbctool.onnx_model import OnnxModel
from wbctool.records import Box, Crop
from wbctool.stages.upscale import PREPARED_PX, generator_side_px, prepare_crops, resize_square

log = logging.getLogger(__name__)

_SIDES_PX = (24, 32, 40, 48, 56, 64)  # of a small cell's crop
_ROOM = 1.12  # about the crop, for the classifier's own jitter
_AT_ONCE = 96


def small_copies(
    cells: Sequence[CellSample],
    generator: OnnxModel[GeneratorCard],
    margin: float,
    share: float,
    folder: Path,
    seed: int,
) -> list[CellSample]:
    """``share`` of the cells again, reduced to 24 to 64 pixels a side and super-resolved; both drawn by ``seed``.

    Label, source and origin are the cell's own, so no split is crossed.
    """
    rng = np.random.default_rng(seed)
    drawn = sorted(rng.choice(len(cells), round(share * len(cells)), replace=False).tolist())
    sides_px = rng.choice(_SIDES_PX, len(drawn)).tolist()
    return _super_resolved([cells[i] for i in drawn], sides_px, generator, margin * _ROOM, folder)


def as_served(
    cells: Sequence[CellSample], generator: OnnxModel[GeneratorCard], margin: float, folder: Path
) -> list[CellSample]:
    """The cells in order; those that ``--super-resolve auto`` would send through the generator, after it."""
    sides_px = [round(cell.box.side_px * margin) for cell in cells]
    small = [generator_side_px(side, SuperResolve.AUTO, generator.card) is not None for side in sides_px]
    enhanced = iter(
        _super_resolved(
            [c for c, chosen in zip(cells, small, strict=True) if chosen],
            [s for s, chosen in zip(sides_px, small, strict=True) if chosen],
            generator,
            margin,
            folder,
        )
    )
    return [next(enhanced) if chosen else cell for cell, chosen in zip(cells, small, strict=True)]


def _super_resolved(
    cells: Sequence[CellSample],
    sides_px: Sequence[int],
    generator: OnnxModel[GeneratorCard],
    margin: float,
    folder: Path,
) -> list[CellSample]:
    """margin: of the cut; the returned box is the cell in it.

    PNGs of 128×128 in ``folder``, not made again where they are there: a resumed training starts at once.
    """
    paths = [folder / f"{_key(c, s, margin)}.png" for c, s in zip(cells, sides_px, strict=True)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        log.info("super-resolving %d of %d cells", len(missing), len(cells))
        folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(missing), _AT_ONCE):
        group = missing[start : start + _AT_ONCE]
        crops = [Crop(resize_square(cut_cell(cells[i], margin), sides_px[i])) for i in group]
        for i, rgb in zip(group, prepare_crops(crops, generator, SuperResolve.AUTO).rgb, strict=True):
            temporary = paths[i].with_name(f".tmp-{paths[i].name}")  # a killed training must not leave half a picture
            cv2.imwrite(str(temporary), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
            temporary.replace(paths[i])
    side = round(PREPARED_PX / margin)
    corner = (PREPARED_PX - side) // 2
    whole = Box(corner, corner, side, side)
    return [replace(cell, path=path, box=whole) for cell, path in zip(cells, paths, strict=True)]


def _key(cell: CellSample, side_px: int, margin: float) -> str:
    facts = f"{cell.path}|{cell.box}|{side_px}|{margin:g}"
    return hashlib.sha256(facts.encode()).hexdigest()[:20]

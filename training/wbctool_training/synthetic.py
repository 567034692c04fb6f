"""The paper's synthetic images: one generator per class makes more images for the classifier's training."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import torch
from PIL import Image

from wbctool.imaging.resize import resize_square
from wbctool.labels import CellClass
from wbctool.types.cells import Box
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.data.classification_dataset import paper_augmentation
from wbctool_training.data.sampler import BalancedSampler
from wbctool_training.data.sr_pairs import degrade_to_lr
from wbctool_training.models.srgan import HR_PX, Generator

log = logging.getLogger(__name__)

GENERATED = "generated"


def generate_cells(
    generator: Generator, label: CellClass, cells: list[CellRef], margin: float, n_images: int, folder: Path, seed: int
) -> None:
    """Write super-resolved 128×128 PNG images to ``folder/<class>/``, named ``<n>_<group>.png``.

    Each is a sampled training cell with the paper's augmentation, reduced to 32×32 and super-resolved. Images of an
    earlier generator are deleted.

    Args:
        generator: The generator of this class.
        label: The class.
        cells: Training cells of the class.
        margin: Side of the crop, relative to the box.
        n_images: How many images to write.
        folder: The folder in which each class has one of its own.
        seed: The seed of the random sampling.
    """
    sampler, rng = BalancedSampler(cells), np.random.default_rng(seed)
    target = folder / label.value
    target.mkdir(parents=True, exist_ok=True)
    for stale in target.glob("*.png"):
        stale.unlink()
    generator.eval()
    for index in range(n_images):
        cell = sampler(rng)
        lr = degrade_to_lr(paper_augmentation(resize_square(crop_cell(cell, margin), HR_PX), rng))
        with torch.inference_mode():
            sr = generator(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].clamp(0.0, 1.0)
        rgb = (sr * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(rgb).save(target / f"{index:05d}_{quote(cell.group, safe='')}.png")
    log.info("wrote %d images of %s", n_images, target)


def read_generated_cells(folder: Path, margin: float) -> Iterable[CellRef]:
    """Yield what :func:`generate_cells` wrote, each image as a cell whose crop is the whole image.

    Args:
        folder: The folder in which each class has one of its own.
        margin: Side of the crop, relative to the box.
    """
    side = round(HR_PX / margin)
    corner = (HR_PX - side) // 2
    for path in sorted(folder.glob("*/*.png")):
        group = unquote(path.stem.partition("_")[2])
        yield CellRef(path, Box(corner, corner, side, side), CellClass(path.parent.name), group, GENERATED)

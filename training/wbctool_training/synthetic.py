"""The paper's synthetic images: one generator per class makes more images for the classifier's training."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import torch
from PIL import Image

from wbctool.datasets.labelled import GroupSplit
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.resize import resize_square
from wbctool.labels import CellClass
from wbctool.store.atomic_write import write_json_atomic
from wbctool.types.cells import Box
from wbctool_training.data.cell_index import CellRef, crop_cell
from wbctool_training.data.classification_dataset import paper_augmentation
from wbctool_training.data.sampler import BalancedSampler
from wbctool_training.data.sr_pairs import degrade_to_lr
from wbctool_training.models.srgan import HR_PX, Generator

log = logging.getLogger(__name__)

GENERATED = "generated"
_RECORD = "generated.json"
_NAMES = "n,dataset,group"  # images of earlier versions, which were named otherwise, are made again


def generate_cells(
    generator: Generator, label: CellClass, cells: list[CellRef], margin: float, n_images: int, folder: Path, seed: int
) -> None:
    """Write super-resolved 128×128 PNG images to ``folder/<class>/``, named ``<n>,<dataset>,<group>.png``.

    Each is a sampled training cell with the paper's augmentation, reduced to 32×32 and super-resolved. Images of an
    earlier generator are deleted, and so is the record of the whole, which :func:`write_record` writes.

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
    (folder / _RECORD).unlink(missing_ok=True)
    for stale in target.glob("*.png"):
        stale.unlink()
    generator.eval()
    for index in range(n_images):
        cell = sampler(rng)
        lr = degrade_to_lr(paper_augmentation(resize_square(crop_cell(cell, margin), HR_PX), rng))
        with torch.inference_mode():
            sr = generator(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].clamp(0.0, 1.0)
        rgb = (sr * 255).round().byte().permute(1, 2, 0).numpy()
        dataset, group = (quote(name, safe="") for name in (cell.dataset, cell.group))
        Image.fromarray(rgb).save(target / f"{index:05d},{dataset},{group}.png")
    log.info("wrote %d images of %s", n_images, target)


def write_record(folder: Path, group_split: GroupSplit, n_images: int) -> None:
    """Record of which cells the images of all classes were made, for :func:`read_generated_cells`.

    Args:
        folder: The folder in which each class has one of its own.
        group_split: The split whose training cells they were made of.
        n_images: The number of images of each class.
    """
    write_json_atomic(folder / _RECORD, _make_record(group_split, n_images))


def read_generated_cells(
    folder: Path, classes: Sequence[CellClass], margin: float, group_split: GroupSplit, n_images: int
) -> list[CellRef]:
    """Read what :func:`generate_cells` wrote, each image as a cell whose crop is the whole image.

    Each has the dataset ``generated <dataset>``. The group, which it shares, keeps it in the laboratory of its cell.

    Args:
        folder: The folder in which each class has one of its own.
        classes: The classes of the training at hand.
        margin: Side of the crop, relative to the box.
        group_split: The split of the training at hand.
        n_images: The number of images of each class that its recipe wants.

    Raises:
        LabelledDataInvalid: The images are missing, or were made of another split's training cells.
    """
    path = folder / _RECORD
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    paths = {label: sorted((folder / label.value).glob("*.png")) for label in classes}
    has_all = all(len(of_class) == n_images for of_class in paths.values())
    if record != _make_record(group_split, n_images) or not has_all:
        raise LabelledDataInvalid(
            f"{folder} does not hold {n_images} generated images of each class made of this split's training cells: "
            "make them with --stage srgan, or set generated_per_class = 0"
        )
    side = round(HR_PX / margin)
    corner = (HR_PX - side) // 2
    box = Box(corner, corner, side, side)
    cells = []
    for label, of_class in paths.items():
        for path in of_class:
            _, dataset, group = map(unquote, path.stem.split(","))
            cells.append(CellRef(path, box, label, group, f"{GENERATED} {dataset}"))
    return cells


def _make_record(group_split: GroupSplit, n_images: int) -> dict[str, Any]:
    """Return the record of images as JSON values."""
    held_out = sorted(group_split.held_out_datasets)
    return {"fold": group_split.fold, "held_out_datasets": held_out, "images_per_class": n_images, "names": _NAMES}

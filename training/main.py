"""`wbctool train`: labelled data in, models out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from training.ablate import ablate_losses
from training.compare import compare_backbones, table_as_text
from training.models.backbones import Backbone
from training.recipe import load_recipe
from training.stages.classifier import train_classifier
from training.stages.detector import train_detector
from training.stages.srgan import train_srgan
from training.workplace import Workplace
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.lab.labelled import Splitting, fields_folders, read_class_folders, read_fields

log = logging.getLogger(__name__)

_SHIPPED = Splitting()
STAGES = {"detector": train_detector, "srgan": train_srgan, "classifier": train_classifier}


def train(
    data: Sequence[Path],
    out: Path,
    recipe: str = "default",
    stage: str = "all",
    imagenet_weights: Path | None = None,
    resume: bool = False,
    max_hours: float | None = None,
    splitting: Splitting = _SHIPPED,
    backbone: str = Backbone.VGG19,
    compare: bool = False,
    ablate: bool = False,
    start_from: Sequence[Path] = (),
) -> None:
    """Train and export.

    data: folders of labelled data, or folders that hold several. out: models, and checkpoints under ``out/training``.
    stage: one of STAGES, or ``all`` in that order; the later ones need the detector in ``out``.
    resume: go on from the last checkpoint of each stage. max_hours: for each training loop; what is there then is
    exported. splitting: which sources are held back. backbone: a value of Backbone.
    start_from: the folders of models whose generator and classifier are trained further; of several the classifiers'
    mean.
    compare: train and test every backbone instead, and print the paper's Table 6 beside ours.
    ablate: train the generator under every loss of the ablation instead, for `wbctool evaluate` to compare.
    """
    if stage != "all" and stage not in STAGES:
        raise SettingsInvalid(f"no stage {stage}: one of all, {', '.join(STAGES)}")
    images = tuple(image for folder in data for image in read_class_folders(folder))
    fields = tuple(f for folder in data for inner in fields_folders(folder) for f in read_fields(inner))
    if not images and not fields:
        where = ", ".join(map(str, data)) or "no folder (give --data DIR)"
        raise LabelledDataInvalid(f"no labelled data: {where} holds neither class folders nor fields with boxes")
    origins = {image.origin for image in images} | {field.origin for field in fields}
    if unknown := set(splitting.left_out) - origins:
        raise SettingsInvalid(f"--leave-out {', '.join(unknown)}: the data's origins are {', '.join(sorted(origins))}")
    torch.set_float32_matmul_precision("high")
    work = Workplace(
        recipe=load_recipe(recipe),
        images=images,
        fields=fields,
        out=out,
        imagenet_weights=imagenet_weights,
        resume=resume,
        max_hours=max_hours,
        splitting=splitting,
        backbone=Backbone(backbone),
        start_from=tuple(start_from),
    )
    if compare:
        print(table_as_text(compare_backbones(work)))
        return
    if ablate:
        ablate_losses(work)
        return
    for name in STAGES if stage == "all" else [stage]:
        STAGES[name](work)

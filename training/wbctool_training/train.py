"""`wbctool train`: labelled data in, models out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from experiments.backbones import compare_backbones, format_comparison
from experiments.losses import ablate_losses
from wbctool.datasets.labelled import (
    GroupSplit,
    HasGroup,
    LabelledField,
    LabelledImage,
    find_field_folders,
    read_class_folders,
    read_fields,
)
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool_training.context import TrainingContext
from wbctool_training.data.laboratories import find_laboratories
from wbctool_training.init_from import copy_bundled_models, copy_unchanged_models
from wbctool_training.models.backbones import Backbone
from wbctool_training.recipe import Recipe, load_recipe
from wbctool_training.trainers.classifier import train_classifier
from wbctool_training.trainers.detector import train_detector
from wbctool_training.trainers.srgan import train_srgan
from wbctool_training.weights import load_imagenet_features

log = logging.getLogger(__name__)

_DEFAULT_SPLIT = GroupSplit()
STAGES = {"detector": train_detector, "srgan": train_srgan, "classifier": train_classifier}


def train(
    data: Sequence[Path],
    out: Path,
    recipe: str = "default",
    stage: str = "all",
    imagenet_weights: Path | None = None,
    resume: bool = False,
    max_hours: float | None = None,
    group_split: GroupSplit = _DEFAULT_SPLIT,
    backbone: str = Backbone.VGG19,
    compare: bool = False,
    ablate: bool = False,
    init_from: Sequence[Path] = (),
) -> None:
    """Train and export.

    data: folders of labelled data, or folders that hold several. out: models, and checkpoints under ``out/training``.
    stage: one of STAGES, or ``all`` in that order, but for those that the recipe has no samples for. Models that are
    not trained are taken over from the first ``init_from``; those that a stage works with and that are still missing
    in ``out`` are the package's.
    resume: go on from the last checkpoint of each stage. max_hours: for each training loop; what is there then is
    exported. group_split: which sources are held back. backbone: a value of Backbone.
    init_from: the folders of models whose generator and classifier are trained further; of several the classifiers'
    mean.
    compare: train and test every backbone instead, and print the paper's Table 6 beside ours.
    ablate: train the generator under every loss of the ablation instead, for `wbctool evaluate` to compare.
    """
    _check_options(stage, max_hours, compare, ablate, init_from, backbone)
    loaded = load_recipe(recipe)
    stages = _select_stages(loaded, stage, compare, ablate)
    if (loaded.requires_init or not loaded.classifier.samples) and "classifier" in stages and not init_from:
        raise SettingsInvalid(f"recipe {loaded.name} continues a trained model: name its folder with --init-from")
    if len(init_from) > 1 and stages != ["classifier"]:
        raise SettingsInvalid("several --init-from are only for --stage classifier: a generator starts from one")
    images, fields = _read_data(data, out)
    torch.set_float32_matmul_precision("high")
    context = TrainingContext(
        recipe=loaded,
        images=images,
        fields=fields,
        out=out,
        imagenet_weights=imagenet_weights,
        resume=resume,
        max_hours=max_hours,
        group_split=_hold_out_whole_laboratories(group_split, [*images, *fields]),
        backbone=Backbone(backbone),
        init_from=tuple(init_from),
    )
    if not compare:
        _check_imagenet_weights(context, stages)
        copy_unchanged_models(context, () if ablate else stages)
    copy_bundled_models(context, stages)
    if compare:
        print(format_comparison(compare_backbones(context)))
    elif ablate:
        ablate_losses(context)
    else:
        for name in stages:
            STAGES[name](context)


def _check_options(
    stage: str,
    max_hours: float | None,
    compare: bool,
    ablate: bool,
    init_from: Sequence[Path],
    backbone: str,
) -> None:
    if stage != "all" and stage not in STAGES:
        raise SettingsInvalid(f"no stage {stage}: choose all, {', '.join(STAGES)}")
    if (compare or ablate) and (stage != "all" or (compare and (ablate or init_from or backbone != Backbone.VGG19))):
        raise SettingsInvalid(
            "--compare trains every backbone afresh, --ablate the generator with every loss: neither can be combined "
            "with the other or with --stage, nor --compare with --init-from or --backbone"
        )
    if max_hours is not None and not max_hours > 0:
        raise SettingsInvalid(f"--max-hours {max_hours:g} leaves no time to train")


def _select_stages(recipe: Recipe, stage: str, compare: bool, ablate: bool) -> list[str]:
    """The stages that there is something to do for, in order."""
    if compare or ablate:
        return ["classifier" if compare else "srgan"]
    stages = [name for name in STAGES if stage in {"all", name} and recipe.has_stage(name)]
    if not stages:
        raise SettingsInvalid(f"recipe {recipe.name} does not train the {stage}: it sets no samples for it")
    return stages


def _read_data(data: Sequence[Path], out: Path) -> tuple[tuple[LabelledImage, ...], tuple[LabelledField, ...]]:
    """All images and fields of the data, but for what earlier trainings left in ``out``: generated images among it."""
    own_outputs = (out / "training").resolve()
    images = tuple(
        image
        for folder in data
        for image in read_class_folders(folder)
        if not image.path.resolve().is_relative_to(own_outputs)
    )
    fields = tuple(
        f for folder in data for fields_folder in find_field_folders(folder) for f in read_fields(fields_folder)
    )
    if not images and not fields:
        locations = ", ".join(map(str, data)) or "no folder (give --data DIR)"
        raise LabelledDataInvalid(f"no labelled data: {locations} holds neither class folders nor fields with boxes")
    return images, fields


def _check_imagenet_weights(context: TrainingContext, stages: Collection[str]) -> None:
    """They are wanted hours from now; that they are there and fit is to be seen now.

    Raises as :func:`load_imagenet_features`; SettingsInvalid where one file is to serve two networks.
    """
    srgan, classifier = context.recipe.srgan, context.recipe.classifier
    backbones = set()
    if "srgan" in stages and srgan.gan_samples and srgan.content_weight:
        backbones.add(Backbone.VGG19)  # the content loss looks through it, whatever the classifier's backbone
    if "classifier" in stages and classifier.samples and not context.init_from:
        backbones.add(context.backbone)
    if len(backbones) > 1 and context.imagenet_weights is not None:
        raise SettingsInvalid(
            f"--imagenet-weights cannot be those of {context.backbone} for the classifier and of vgg19 for the content "
            "loss of the generator: train --stage srgan and --stage classifier one after the other"
        )
    for backbone in backbones:
        load_imagenet_features(context.imagenet_weights, backbone)


def _hold_out_whole_laboratories(group_split: GroupSplit, items: Sequence[HasGroup]) -> GroupSplit:
    """With the other origins of the laboratories that are left out: copies of an original must not be trained on."""
    laboratory_by_dataset = find_laboratories(items)
    if unknown := set(group_split.held_out_datasets) - laboratory_by_dataset.keys():
        raise SettingsInvalid(
            f"--hold-out-dataset {', '.join(unknown)}: not in the data, whose datasets are {', '.join(sorted(laboratory_by_dataset))}"
        )
    for laboratory in sorted(set(laboratory_by_dataset.values())):
        datasets = [origin for origin, other in sorted(laboratory_by_dataset.items()) if other == laboratory]
        if len(datasets) > 1:
            log.info("taken for one laboratory, as they have sources of the same names: %s", ", ".join(datasets))
    held_out_laboratories = {laboratory_by_dataset[origin] for origin in group_split.held_out_datasets}
    held_out_datasets = tuple(
        sorted(origin for origin, laboratory in laboratory_by_dataset.items() if laboratory in held_out_laboratories)
    )
    if added := set(held_out_datasets) - set(group_split.held_out_datasets):
        log.info("left out too, as it shares originals with what is left out: %s", ", ".join(sorted(added)))
    return replace(group_split, held_out_datasets=held_out_datasets)

"""`wbctool train`: labelled data in, models out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from training.ablate import ablate_losses
from training.compare import compare_backbones, table_as_text
from training.data.laboratories import laboratories
from training.models.backbones import Backbone
from training.recipe import Recipe, load_recipe
from training.stages.classifier import train_classifier
from training.stages.detector import train_detector
from training.stages.srgan import train_srgan
from training.start import borrow_shipped, take_over
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.lab.labelled import (
    Labelled,
    LabelledField,
    LabelledImage,
    Splitting,
    fields_folders,
    read_class_folders,
    read_fields,
)

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
    stage: one of STAGES, or ``all`` in that order, but for those that the recipe has no samples for. Models that are
    not trained are taken over from the first ``start_from``; those that a stage works with and that are still missing
    in ``out`` are the package's.
    resume: go on from the last checkpoint of each stage. max_hours: for each training loop; what is there then is
    exported. splitting: which sources are held back. backbone: a value of Backbone.
    start_from: the folders of models whose generator and classifier are trained further; of several the classifiers'
    mean.
    compare: train and test every backbone instead, and print the paper's Table 6 beside ours.
    ablate: train the generator under every loss of the ablation instead, for `wbctool evaluate` to compare.
    """
    _check_options(stage, max_hours, compare, ablate, start_from, backbone)
    chosen = load_recipe(recipe)
    stages = _stages_of(chosen, stage, compare, ablate)
    if (chosen.needs_start or not chosen.classifier.samples) and "classifier" in stages and not start_from:
        raise SettingsInvalid(f"recipe {chosen.name} continues a trained model: name its folder with --start-from")
    if len(start_from) > 1 and stages != ["classifier"]:
        raise SettingsInvalid("several --start-from are only for --stage classifier: a generator starts from one")
    images, fields = _labelled(data, out)
    torch.set_float32_matmul_precision("high")
    work = Workplace(
        recipe=chosen,
        images=images,
        fields=fields,
        out=out,
        imagenet_weights=imagenet_weights,
        resume=resume,
        max_hours=max_hours,
        splitting=_whole_laboratories(splitting, [*images, *fields]),
        backbone=Backbone(backbone),
        start_from=tuple(start_from),
    )
    if not compare:
        _try_imagenet_weights(work, stages)
        take_over(work, () if ablate else stages)
    borrow_shipped(work, stages)
    if compare:
        print(table_as_text(compare_backbones(work)))
    elif ablate:
        ablate_losses(work)
    else:
        for name in stages:
            STAGES[name](work)


def _check_options(
    stage: str,
    max_hours: float | None,
    compare: bool,
    ablate: bool,
    start_from: Sequence[Path],
    backbone: str,
) -> None:
    if stage != "all" and stage not in STAGES:
        raise SettingsInvalid(f"no stage {stage}: choose all, {', '.join(STAGES)}")
    if (compare or ablate) and (stage != "all" or (compare and (ablate or start_from or backbone != Backbone.VGG19))):
        raise SettingsInvalid(
            "--compare trains every backbone afresh, --ablate the generator with every loss: neither can be combined "
            "with the other or with --stage, nor --compare with --start-from or --backbone"
        )
    if max_hours is not None and not max_hours > 0:
        raise SettingsInvalid(f"--max-hours {max_hours:g} leaves no time to train")


def _stages_of(recipe: Recipe, stage: str, compare: bool, ablate: bool) -> list[str]:
    """The stages that there is something to do for, in order."""
    if compare or ablate:
        return ["classifier" if compare else "srgan"]
    stages = [name for name in STAGES if stage in {"all", name} and recipe.trains(name)]
    if not stages:
        raise SettingsInvalid(f"recipe {recipe.name} does not train the {stage}: it sets no samples for it")
    return stages


def _labelled(data: Sequence[Path], out: Path) -> tuple[tuple[LabelledImage, ...], tuple[LabelledField, ...]]:
    """All images and fields of the data, but for what earlier trainings left in ``out``: generated images among it."""
    made_here = (out / "training").resolve()
    images = tuple(
        image
        for folder in data
        for image in read_class_folders(folder)
        if not image.path.resolve().is_relative_to(made_here)
    )
    fields = tuple(f for folder in data for inner in fields_folders(folder) for f in read_fields(inner))
    if not images and not fields:
        where = ", ".join(map(str, data)) or "no folder (give --data DIR)"
        raise LabelledDataInvalid(f"no labelled data: {where} holds neither class folders nor fields with boxes")
    return images, fields


def _try_imagenet_weights(work: Workplace, stages: Collection[str]) -> None:
    """They are wanted hours from now; that they are there and fit is to be seen now.

    Raises as :func:`imagenet_features`; SettingsInvalid where one file is to serve two networks.
    """
    gan, classifier = work.recipe.srgan, work.recipe.classifier
    wanted = set()
    if "srgan" in stages and gan.gan_samples and gan.content_weight:
        wanted.add(Backbone.VGG19)  # the content loss looks through it, whatever the classifier's backbone
    if "classifier" in stages and classifier.samples and not work.start_from:
        wanted.add(work.backbone)
    if len(wanted) > 1 and work.imagenet_weights is not None:
        raise SettingsInvalid(
            f"--imagenet-weights cannot be those of {work.backbone} for the classifier and of vgg19 for the content "
            "loss of the generator: train --stage srgan and --stage classifier one after the other"
        )
    for backbone in wanted:
        imagenet_features(work.imagenet_weights, backbone)


def _whole_laboratories(splitting: Splitting, items: Sequence[Labelled]) -> Splitting:
    """With the other origins of the laboratories that are left out: copies of an original must not be trained on."""
    of_origin = laboratories(items)
    if unknown := set(splitting.left_out) - of_origin.keys():
        raise SettingsInvalid(
            f"--leave-out {', '.join(unknown)}: not in the data, whose origins are {', '.join(sorted(of_origin))}"
        )
    for laboratory in sorted(set(of_origin.values())):
        origins = [origin for origin, of_whom in sorted(of_origin.items()) if of_whom == laboratory]
        if len(origins) > 1:
            log.info("taken for one laboratory, as they have sources of the same names: %s", ", ".join(origins))
    left_out = {of_origin[origin] for origin in splitting.left_out}
    whole = tuple(sorted(origin for origin, laboratory in of_origin.items() if laboratory in left_out))
    if more := set(whole) - set(splitting.left_out):
        log.info("left out too, as it shares originals with what is left out: %s", ", ".join(sorted(more)))
    return replace(splitting, left_out=whole)

"""`wbctool train`: labeled data in, models out."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from wbctool.datasets.class_folders import log_left_out, read_single_cell_images
from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields
from wbctool.datasets.labelled import GroupSplit, HasGroup, LabelledField, LabelledImage, UnknownImage
from wbctool.datasets.laboratories import find_laboratories
from wbctool.enums import TrainStage
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.labels import UnknownKind
from wbctool.store.model_ownership import check_models_overwrite
from wbctool_training.context import TrainingContext
from wbctool_training.copied_models import copy_bundled_models, copy_unchanged_models
from wbctool_training.models.backbones import Backbone
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe import Recipe
from wbctool_training.recipe_files import load_recipe
from wbctool_training.trainers.classifier import train_classifier, train_compact_classifier
from wbctool_training.trainers.detector import train_detector
from wbctool_training.trainers.srgan import train_srgan
from wbctool_training.weights import load_imagenet_features

log = logging.getLogger(__name__)

STAGES = {
    TrainStage.DETECTOR: train_detector,
    TrainStage.SRGAN: train_srgan,
    TrainStage.CLASSIFIER: train_classifier,
    TrainStage.COMPACT: train_compact_classifier,
}


def train(options: TrainingOptions, recipe: str = "default", stage: TrainStage = TrainStage.ALL) -> None:
    """Train models and export them to ONNX with their cards.

    Args:
        options: Where the data are, where the models go, and how to train.
        recipe: A name or a file, as in :func:`load_recipe`.
        stage: What to train; ``all`` is every stage of the recipe, in the order of STAGES. Models that are not trained
            are copied from the first ``init_from``; those that a stage needs and ``out`` still lacks are
            copied from the package.

    Raises:
        SettingsInvalid: Options or recipe are wrong or contradict each other.
        LabelledDataInvalid: The data hold nothing, or not enough, to train on.
        ModelNotFound: A model or file of weights does not exist.
        ModelMismatch: A model or file of weights is not usable for this training.
    """
    loaded = load_recipe(recipe)
    stages = _select_stages(loaded, stage)
    if loaded.requires_init and TrainStage.CLASSIFIER in stages and not options.init_from:
        raise SettingsInvalid(f"recipe {loaded.name} continues a trained model: name its folder with --init-from")
    if len(options.init_from) > 1 and stages != [TrainStage.CLASSIFIER]:
        raise SettingsInvalid("several --init-from are only for --stage classifier: a generator starts from one")
    context = make_context(options, loaded)
    check_imagenet_weights(context, stages)
    copy_unchanged_models(context, stages)
    copy_bundled_models(context, stages)
    for each in stages:
        STAGES[each](context)


def make_context(options: TrainingOptions, recipe: Recipe) -> TrainingContext:
    """Read the data and build the context of a training; the errors are those of :func:`train`."""
    if options.max_hours is not None and not options.max_hours > 0:
        raise SettingsInvalid(f"--max-hours {options.max_hours:g} leaves no time to train")
    check_models_overwrite(options.out)
    images, unknown_images, fields = _read_data(options)
    torch.set_float32_matmul_precision("high")
    group_split = _hold_out_whole_laboratories(options.group_split, [*images, *unknown_images, *fields])
    return TrainingContext(recipe, images, fields, replace(options, group_split=group_split), unknown_images)


def check_imagenet_weights(context: TrainingContext, stages: Collection[TrainStage]) -> None:
    """Load the ImageNet weights once, so that a problem shows now and not after hours of training.

    Args:
        context: The context of the training.
        stages: The stages that will be trained.

    Raises:
        SettingsInvalid: One file would have to serve two networks.
        ModelNotFound: As :func:`load_imagenet_features`.
        ModelMismatch: As :func:`load_imagenet_features`.
    """
    options, srgan = context.options, context.recipe.srgan
    backbones = set()
    if TrainStage.SRGAN in stages and srgan.gan_samples and srgan.content_weight:
        backbones.add(Backbone.VGG19)  # for the content loss, whatever the classifier's backbone
    if TrainStage.CLASSIFIER in stages and not options.init_from:
        backbones.add(options.backbone)
    if len(backbones) > 1 and options.imagenet_weights is not None:
        raise SettingsInvalid(
            f"--imagenet-weights cannot be those of {options.backbone} for the classifier and of vgg19 for the content "
            "loss of the generator: train --stage srgan and --stage classifier one after the other"
        )
    for backbone in backbones:
        load_imagenet_features(options.imagenet_weights, backbone)
    if TrainStage.COMPACT in stages:
        load_imagenet_features(None, Backbone.EFFICIENTNET_LITE0)


def _select_stages(recipe: Recipe, stage: TrainStage) -> list[TrainStage]:
    """Return the stages to train, in order."""
    stages = [each for each in STAGES if stage in {TrainStage.ALL, each} and recipe.has_stage(each)]
    if not stages:
        raise SettingsInvalid(f"recipe {recipe.name} does not train the {stage}: it sets no samples for it")
    return stages


def _read_data(
    options: TrainingOptions,
) -> tuple[tuple[LabelledImage, ...], tuple[UnknownImage, ...], tuple[LabelledField, ...]]:
    """Read all images and fields, except what earlier trainings left in ``out``, such as synthetic images."""
    own_outputs = (options.out / "training").resolve()
    field_labels = read_cell_labels(options.labels) if options.labels else {}
    known: list[LabelledImage] = []
    unknown: list[UnknownImage] = []
    for folder in options.data:
        known_there, unknown_there = read_single_cell_images(folder)
        log_left_out(folder)
        known += [image for image in known_there if not image.path.resolve().is_relative_to(own_outputs)]
        unknown += [image for image in unknown_there if image.kind in set(UnknownKind)]
    fields = tuple(
        field
        for folder in options.data
        for fields_folder in find_field_folders(folder)
        for field in read_fields(fields_folder, field_labels)
    )
    if not known and not fields:
        locations = ", ".join(map(str, options.data)) or "no folder (give --data DIR)"
        raise LabelledDataInvalid(f"no labeled data: {locations} holds neither class folders nor fields with boxes")
    return tuple(known), tuple(unknown), fields


def _hold_out_whole_laboratories(group_split: GroupSplit, items: Sequence[HasGroup]) -> GroupSplit:
    """Also hold out the datasets that share groups with a held-out one, whose copies must not be trained on."""
    laboratory_by_dataset = find_laboratories(items)
    if unknown := set(group_split.held_out_datasets) - laboratory_by_dataset.keys():
        raise SettingsInvalid(
            f"--hold-out-dataset {', '.join(sorted(unknown))}: not in the data, whose datasets are "
            f"{', '.join(sorted(laboratory_by_dataset))}"
        )
    for laboratory in sorted(set(laboratory_by_dataset.values())):
        datasets = [dataset for dataset, other in sorted(laboratory_by_dataset.items()) if other == laboratory]
        if len(datasets) > 1:
            log.info("treated as one laboratory, because they share names of groups: %s", ", ".join(datasets))
    held_out_laboratories = {laboratory_by_dataset[dataset] for dataset in group_split.held_out_datasets}
    held_out_datasets = tuple(
        sorted(dataset for dataset, laboratory in laboratory_by_dataset.items() if laboratory in held_out_laboratories)
    )
    if added := set(held_out_datasets) - set(group_split.held_out_datasets):
        log.info("also held out, because they share groups with a held-out dataset: %s", ", ".join(sorted(added)))
    return replace(group_split, held_out_datasets=held_out_datasets)

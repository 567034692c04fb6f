"""Models that a training uses but does not train, copied into its output."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from wbctool.enums import TrainStage
from wbctool.inference.model_card import (
    CellClassifierCard,
    ClassifierCard,
    CompactCard,
    DetectorCard,
    GeneratorCard,
    ModelCard,
    default_models_dir,
    kind_name,
    load_fp32_card,
)
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.training_features import training_features_path
from wbctool_training.context import TrainingContext
from wbctool_training.export import write_model
from wbctool_training.init_from import check_no_leakage

log = logging.getLogger(__name__)

_REQUIRED_STAGES = {
    TrainStage.SRGAN: (TrainStage.DETECTOR,),
    TrainStage.CLASSIFIER: (TrainStage.DETECTOR, TrainStage.SRGAN),
    TrainStage.COMPACT: (TrainStage.DETECTOR, TrainStage.SRGAN),
}
_CARD_TYPES: dict[TrainStage, type[ModelCard]] = {
    TrainStage.DETECTOR: DetectorCard,
    TrainStage.SRGAN: GeneratorCard,
    TrainStage.CLASSIFIER: ClassifierCard,
    TrainStage.COMPACT: CompactCard,
}


def copy_unchanged_models(context: TrainingContext, stages: Collection[TrainStage]) -> None:
    """Copy the models that no stage trains from the first ``init_from`` folder, if the output lacks them.

    Args:
        context: The context of the training; nothing is copied if it has no ``init_from``.
        stages: The stages that will be trained.

    Raises:
        ModelNotFound: The folder lacks a model.
        ModelMismatch: A model was trained on groups of this training's test split.
    """
    if not context.options.init_from:
        return
    folder = context.options.init_from[0]
    for stage, kind in _CARD_TYPES.items():
        name = f"{kind_name(kind)}.json"
        has_none = kind is CompactCard and not (folder / name).is_file()  # an older folder has one reader
        if stage not in stages and not has_none and not (context.options.out / name).is_file():
            card = load_fp32_card(folder, kind)
            check_no_leakage(card, folder, context.options.group_split)
            write_model(
                read_model_bytes(card, folder),
                card,
                context.options.out,
                read_features_file(card, folder, context.options.out),
            )


def copy_bundled_models(context: TrainingContext, stages: Collection[TrainStage]) -> None:
    """Copy the detector and generator that the stages use, but neither train nor find in the output, from the package.

    If they were trained on groups of this training's test split, :meth:`TrainingContext.warn_on_leakage` says so when
    they are used.

    Args:
        context: The context of the training.
        stages: The stages that will be trained.
    """
    sections = {TrainStage.CLASSIFIER: context.recipe.classifier, TrainStage.COMPACT: context.recipe.compact}
    required = {
        helper
        for stage in stages
        for helper in _REQUIRED_STAGES.get(stage, ())
        if helper is not TrainStage.SRGAN or ((section := sections[stage]) and section.super_resolved_share)
    }
    for helper in sorted(required - set(stages)):
        kind = _CARD_TYPES[helper]
        if not (context.options.out / f"{kind_name(kind)}.json").is_file():
            bundled = default_models_dir()
            log.info("%s has no %s: using the shipped one", context.options.out, kind_name(kind))
            card = load_fp32_card(bundled, kind)
            write_model(read_model_bytes(card, bundled), card, context.options.out)


def read_features_file(card: ModelCard, folder: Path, out: Path) -> dict[Path, bytes]:
    """Return the file of features of training cells that belongs to a model.

    Args:
        card: The model's card.
        folder: The folder of the model.
        out: The folder that the file goes to.

    Returns:
        The content by the new path; nothing if there is no such file.
    """
    if not isinstance(card, CellClassifierCard):
        return {}
    path = training_features_path(folder, type(card))
    return {out / path.name: path.read_bytes()} if path.is_file() else {}

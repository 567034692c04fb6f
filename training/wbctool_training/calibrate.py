"""`wbctool calibrate`: a trained classifier's temperature and thresholds, fitted to other cells without training."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wbctool import __version__
from wbctool.datasets.labelled import GroupSplit, Split, evenly_spaced
from wbctool.enums import TrainStage
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.evaluation.classification import is_learned
from wbctool.inference.model_card import ClassifierCard, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import FEATURES, LOGITS, OnnxModel, create_session
from wbctool.inference.training_features import (
    TrainingFeatures,
    encode_training_features,
    training_features_path,
)
from wbctool.inference.training_info import SplitInfo
from wbctool.labels import CellClass, UnknownKind
from wbctool.text import pluralize
from wbctool.types.cells import Crop
from wbctool.verification.criteria import MIN_CELLS, MIN_GROUPS
from wbctool_training.calibration import fit_calibration, warn_on_few_cells
from wbctool_training.context import TrainingContext, merge_training_data
from wbctool_training.copied_models import copy_unchanged_models, read_features_file
from wbctool_training.data.cell_index import CellRef, crop_cell, preprocess_cells
from wbctool_training.data.laboratories import laboratory_balanced_weights
from wbctool_training.data.sr_augmentation import as_inference
from wbctool_training.export import (
    N_PARITY_CELLS,
    ClassifierGraph,
    export_classifier,
    round_weights_fp16,
    write_model,
)
from wbctool_training.familiarity import fit_familiarity
from wbctool_training.init_from import average_weights, check_no_leakage
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import make_context
from wbctool_training.trainers.classifier import FEATURES_CELLS

log = logging.getLogger(__name__)

_DEFAULT_SPLIT = GroupSplit()
_BATCH = 256  # crops held in memory


@dataclass(frozen=True, slots=True)
class _Classifier:
    """A classifier with its file, its card and the other files that belong to it, by their new path."""

    content: bytes
    card: ClassifierCard
    more: dict[Path, bytes]


def calibrate(
    data: Sequence[Path], out: Path, init_from: Sequence[Path], group_split: GroupSplit = _DEFAULT_SPLIT
) -> None:
    """Fit a trained classifier's temperature and thresholds to the validation split of other data, without training.

    Of one classifier all else stays: its network, what its card says of its training and adaptation, when a slide is
    familiar, and the features of its training cells.

    Args:
        data: Folders of labeled data, or folders that contain several of these.
        out: Folder of the calibrated classifier, to which the other models of the first ``init_from`` are copied if it
            lacks them.
        init_from: Folders of trained models. Of several, the mean of the classifiers' weights is calibrated.
        group_split: Which groups are the validation split.

    Raises:
        SettingsInvalid: ``init_from`` is empty, or a dataset to hold out is not in the data.
        LabelledDataInvalid: The validation split has less than 100 cells or 20 groups, or the data hold no cells that
            several classifiers were trained on.
        ModelNotFound: A model does not exist.
        ModelMismatch: A model's file and card differ, its training data include the test split, or several classifiers
            have no mean.
    """
    if not init_from:
        raise SettingsInvalid("calibration needs a trained model: name its folder")
    parents = [load_fp32_card(folder, ClassifierCard) for folder in init_from]
    context = make_context(
        TrainingOptions(data=data, out=out, group_split=group_split, init_from=init_from), load_recipe("default")
    )
    for folder, parent in zip(init_from, parents, strict=True):
        check_no_leakage(parent, folder, context.options.group_split)
    copy_unchanged_models(context, [TrainStage.CLASSIFIER])
    cells = [cell for cell in context.load_cells() if cell.label in parents[0].classes]
    validation = _select_validation_cells(context, cells, parents[0])
    if len(parents) == 1:
        more = read_features_file(parents[0], init_from[0], out)
        classifier = _Classifier(read_model_bytes(parents[0], init_from[0]), parents[0], more)
    else:
        classifier = _average(context, cells, validation, parents)
    card = _calibrate(context, classifier, validation)
    write_model(classifier.content, card, out, classifier.more)


def _select_validation_cells(context: TrainingContext, cells: Sequence[CellRef], card: ClassifierCard) -> list[CellRef]:
    """Return the validation cells that the classifier has not learned from, prepared as a run prepares them."""
    validation = [cell for cell in cells if context.options.group_split.assign(cell) is Split.VALIDATION]
    if card.adaptation is not None:
        n_all = len(validation)
        validation = [cell for cell in validation if not is_learned(Crop(crop_cell(cell, card.crop_margin)), card)]
        log.info("%s left out: the model was adapted with them", pluralize(n_all - len(validation), "cell"))
    n_groups = len({cell.group for cell in validation})
    if len(validation) < MIN_CELLS or n_groups < MIN_GROUPS:
        raise LabelledDataInvalid(
            f"the {Split.VALIDATION} split has only {pluralize(len(validation), 'cell')} of "
            f"{pluralize(n_groups, 'group')}: to calibrate, {MIN_CELLS} cells of {MIN_GROUPS} groups are needed"
        )
    warn_on_few_cells(validation, card.classes)
    generator, cache_dir = context.load_generator()
    return as_inference(validation, generator, card.crop_margin, cache_dir)


def _calibrate(context: TrainingContext, classifier: _Classifier, cells: Sequence[CellRef]) -> ClassifierCard:
    """Return the classifier's card with temperature and thresholds fitted to cells."""
    card = classifier.card
    logits, _, y_true = _compute_onnx_outputs(create_session(card, classifier.content), cells)
    calibrated_on = dict(Counter(cell.dataset for cell in cells))
    group_split = context.options.group_split
    # A data set that training held out stays so, unless some of its cells are now those of the calibration, or another
    # classifier of the mean was trained on it.
    seen = {*calibrated_on, *(card.training.datasets or ())}
    still_held_out = [name for name in card.training.group_split.held_out_datasets if name not in seen]
    held_out = tuple(dict.fromkeys((*group_split.held_out_datasets, *still_held_out)))
    split_info = SplitInfo(fold=group_split.fold, held_out_datasets=held_out)
    training = card.training.model_copy(update={"calibrated_on": calibrated_on, "group_split": split_info})
    card = card.model_copy(update={"training": training})
    return fit_calibration(card, logits, y_true, laboratory_balanced_weights(cells))


def _average(
    context: TrainingContext,
    cells: Sequence[CellRef],
    validation: Sequence[CellRef],
    parents: Sequence[ClassifierCard],
) -> _Classifier:
    """Export the mean of several classifiers, whose familiar slides are those of the cells that they were trained on.

    Raises:
        LabelledDataInvalid: The data hold no such cells.
        ModelMismatch: The classifiers have no mean, or the exported model differs from the network.
    """
    first = parents[0]
    backbone, white_balance = Backbone(first.training.backbone), first.training.white_balance
    outputs: tuple[CellClass | UnknownKind, ...] = (*first.classes, *first.unknown_kinds)
    weights = average_weights(context.options.init_from, outputs, context.options.group_split, backbone)
    seen = merge_training_data((), parents)
    train = [c for c in cells if c.dataset in seen["datasets"] and context.options.group_split.assign(c) is Split.TRAIN]
    if not train:
        raise LabelledDataInvalid(
            "the mean of several classifiers needs cells that they were trained on, to know which slides are familiar: "
            f"the data must hold one of the data sets {', '.join(seen['datasets'])}"
        )
    network = NormalizedClassifier(CellClassifier(len(outputs), backbone=backbone), white_balance)
    network.load_state_dict(weights, strict=True)
    round_weights_fp16(network)
    graph = ClassifierGraph(network.to(memory_format=torch.contiguous_format), len(first.classes)).eval()
    example = preprocess_cells(evenly_spaced(train, N_PARITY_CELLS), first.crop_margin)
    content, parity = export_classifier(graph, example)
    model = create_session(first, content)
    _, train_features, train_y = _compute_onnx_outputs(model, evenly_spaced(train, FEATURES_CELLS))
    _, features, _ = _compute_onnx_outputs(model, validation)
    started_from = " + ".join(parent.sha256 for parent in parents)
    card = first.model_copy(
        update={
            "version": __version__,
            "tool_version": __version__,
            "training": first.training.model_copy(update={**seen, "started_from": started_from}),
            "metrics": {"parity_with_pytorch": float(f"{parity:.3g}")},
            "familiarity": fit_familiarity(train_features, train_y, features, validation, context.recipe.familiarity),
        }
    )
    encoded = encode_training_features(TrainingFeatures(train_features, train_y), hashlib.sha256(content).hexdigest())
    return _Classifier(content, card, {training_features_path(context.options.out, ClassifierCard): encoded})


def _compute_onnx_outputs(
    model: OnnxModel[ClassifierCard], cells: Sequence[CellRef]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return logits (N, n_outputs), penultimate features (N, D) and class indices (N,) of labeled cells."""
    card = model.card
    batches = [
        model.run(preprocess_cells(cells[start : start + _BATCH], card.crop_margin), LOGITS, FEATURES)
        for start in range(0, len(cells), _BATCH)
    ]
    logits, features = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    index: dict[CellClass | UnknownKind | None, int] = {label: number for number, label in enumerate(card.classes)}
    return logits, features, np.array([index[cell.label] for cell in cells], np.int64)

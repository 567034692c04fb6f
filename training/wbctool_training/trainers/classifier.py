"""Trains, calibrates and exports the classifiers of both readers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wbctool.datasets.labelled import evenly_spaced
from wbctool.inference.model_card import ClassifierCard, CompactCard, kind_name, load_fp32_card
from wbctool.inference.training_features import (
    TrainingFeatures,
    encode_training_features,
    training_features_path,
)
from wbctool.labels import CellClass, UnknownKind
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool_training.calibration import fit_calibration, warn_on_few_cells
from wbctool_training.checkpoints import ResumableEarlyStopping
from wbctool_training.context import TrainingContext
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.data.classification_dataset import EvalDataset, TrainDataset
from wbctool_training.data.laboratories import laboratory_balanced_weights
from wbctool_training.data.loader import make_loader
from wbctool_training.export import (
    N_PARITY_CELLS,
    ClassifierGraph,
    SubtypeClassifierGraph,
    export_classifier,
    round_weights_fp16,
    write_model,
)
from wbctool_training.familiarity import fit_familiarity
from wbctool_training.fit import load_weights
from wbctool_training.init_from import average_weights
from wbctool_training.lightning_modules.classifier import ClassifierModule
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import NormalizedClassifier
from wbctool_training.recipe import ClassifierRecipe
from wbctool_training.subtypes import SubtypeLayer, fit_subtypes
from wbctool_training.trainers.classifier_split import ClassifierSplit, gather_cells
from wbctool_training.weights import load_imagenet_features

Outputs = tuple[CellClass | UnknownKind, ...]
FEATURES_CELLS = 1500  # of the training, whose features go beside the model


def train_classifier(context: TrainingContext) -> None:
    """Train the first reader, calibrate it and write classifier.onnx.

    Checkpoint, temperature and thresholds are chosen by the validation split alone.

    Args:
        context: The context of the training; ``out`` holds the detector and, if the recipe super-resolves cells, the
            generator.

    Raises:
        LabelledDataInvalid: A split has no cells.
        ModelNotFound: A model or file of weights does not exist.
        ModelMismatch: The start is not usable, or the exported model differs from the network.
    """
    _train(context, context.recipe.classifier, ClassifierCard)


def train_compact_classifier(context: TrainingContext) -> None:
    """Train the second reader, calibrate it and write compact.onnx; it starts from ImageNet's weights.

    Args:
        context: The context of the training; ``out`` holds the detector.

    Raises:
        LabelledDataInvalid: A split has no cells.
        ModelNotFound: A model or the package with the weights does not exist.
        ModelMismatch: The exported model differs from the network.
    """
    config = context.recipe.compact
    assert config is not None
    options = replace(context.options, backbone=Backbone.EFFICIENTNET_LITE0, imagenet_weights=None, init_from=())
    _train(replace(context, options=options), config, CompactCard)


@dataclass(frozen=True, slots=True)
class _Exported:
    """A trained classifier as an ONNX graph.

    Attributes:
        network: The network, its large weights rounded to half precision.
        graph: The graph that was exported.
        content: The ONNX file.
        parity: The largest difference between the file's outputs and the graph's (:func:`check_parity`).
        subtypes: The layer that tells finer kinds; None if it has none.
    """

    network: NormalizedClassifier
    graph: ClassifierGraph
    content: bytes
    parity: float
    subtypes: SubtypeLayer | None


def _train(
    context: TrainingContext, config: ClassifierRecipe, card_type: type[ClassifierCard] | type[CompactCard]
) -> None:
    """Train, calibrate and write the classifier of one reader."""
    outputs = context.recipe.outputs_of(config)
    cells, init = gather_cells(context, config), _load_initial_weights(context, outputs, config.white_balance)
    warn_on_few_cells(cells.validation, context.recipe.classes)
    network = fit_classifier(context, config, kind_name(card_type), cells, context.options.backbone, init)
    exported = _export(context, outputs, network, cells, with_subtypes=card_type is CompactCard)
    examples = evenly_spaced(cells.native_train, FEATURES_CELLS)
    training_features = TrainingFeatures(*compute_outputs(exported.graph, examples, outputs, context)[1:])
    card = _make_card(context, config, card_type, cells, exported, training_features)
    encoded = encode_training_features(training_features, hashlib.sha256(exported.content).hexdigest())
    write_model(
        exported.content, card, context.options.out, {training_features_path(context.options.out, card_type): encoded}
    )


def _export(
    context: TrainingContext,
    outputs: Outputs,
    network: NormalizedClassifier,
    cells: ClassifierSplit,
    with_subtypes: bool,
) -> _Exported:
    """Export a trained network, with a layer for subtypes if it is to tell them and the cells teach it."""
    recipe = context.recipe
    round_weights_fp16(network)
    graph = ClassifierGraph(network.to(memory_format=torch.contiguous_format), len(recipe.classes)).eval()
    subtypes = None
    if with_subtypes:
        subtypes = fit_subtypes(
            cells.native_train, cells.validation, lambda some: compute_outputs(graph, some, outputs, context)[1]
        )
    if subtypes is not None:
        round_weights_fp16(subtypes.layer)
        graph = SubtypeClassifierGraph(network, len(recipe.classes), subtypes.layer)
    example = preprocess_cells(evenly_spaced(cells.train, N_PARITY_CELLS), recipe.crop_margin)
    content, parity = export_classifier(graph, example)
    return _Exported(network, graph, content, parity, subtypes)


def _make_card(
    context: TrainingContext,
    config: ClassifierRecipe,
    card_type: type[ClassifierCard] | type[CompactCard],
    cells: ClassifierSplit,
    exported: _Exported,
    training_features: TrainingFeatures,
) -> ClassifierCard | CompactCard:
    """Calibrate an exported classifier on the validation cells and return its card."""
    recipe = context.recipe
    parents = [load_fp32_card(folder, ClassifierCard) for folder in context.options.init_from]
    known = [cell for cell in cells.validation if cell.label in recipe.classes]
    logits, features, y_true = compute_outputs(exported.graph, known, recipe.outputs_of(config), context)
    train_features, train_y = training_features.features, training_features.y_true
    is_known = train_y < len(recipe.classes)
    familiarity = fit_familiarity(train_features[is_known], train_y[is_known], features, known, recipe.familiarity)
    uncalibrated = card_type(
        **context.card_fields(
            kind_name(card_type),
            exported.network,
            cells.native_train,
            exported.parity,
            parents,
            calibrated_on=dict(Counter(cell.dataset for cell in known)),
            backbone=context.options.backbone.value,
            white_balance=config.white_balance,
            super_resolved_copies=cells.n_copies,
            started_from=" + ".join(card.sha256 for card in parents) or "ImageNet",
        ),
        classes=recipe.classes,
        input_px=CLASSIFIER_INPUT_PX,
        crop_margin=recipe.crop_margin,
        temperature=1.0,
        confidence_threshold=0.0,
        unknown_kinds=config.unknown_kinds,
        familiarity=familiarity,
    )
    card = fit_calibration(uncalibrated, logits, y_true, laboratory_balanced_weights(known))
    subtypes = exported.subtypes
    if subtypes is None:
        return card
    return card.model_copy(update={"subtypes": subtypes.subtypes, "subtype_threshold": subtypes.threshold})


def _load_initial_weights(
    context: TrainingContext, outputs: Outputs, white_balance: bool
) -> nn.Sequential | dict[str, Tensor]:
    """Load the weights to start from: those of ``init_from``, or ImageNet's."""
    if context.options.init_from:
        options = context.options
        return average_weights(options.init_from, outputs, options.group_split, options.backbone, white_balance)
    return load_imagenet_features(context.options.imagenet_weights, context.options.backbone)


def fit_classifier(
    context: TrainingContext,
    config: ClassifierRecipe,
    name: str,
    cells: ClassifierSplit,
    backbone: Backbone,
    init: nn.Sequential | dict[str, Tensor] | None,
) -> NormalizedClassifier:
    """Train a classifier, and return the weights' average from the epoch with the lowest validation loss.

    The loss is weighted by :func:`laboratory_balanced_weights`.

    Args:
        context: The context of the training.
        config: The reader's section of the recipe.
        name: The name of the checkpoints' folder.
        cells: The cells by split.
        backbone: Which network.
        init: The backbone's ImageNet convolutions, or the weights of a trained classifier
            (:func:`load_classifier_weights`); None starts from random weights.
    """
    recipe, outputs = context.recipe, context.recipe.outputs_of(config)
    L.seed_everything(recipe.seed, workers=True)
    module = ClassifierModule(config, len(outputs), init, backbone)
    early_stopping = ResumableEarlyStopping(
        "val_loss", min_delta=config.early_stopping_min_delta, patience=config.early_stopping_patience
    )
    dataset = TrainDataset(
        cells.train,
        outputs,
        margin=recipe.crop_margin,
        augment=config.augment,
        seed=recipe.seed,
        stain_bank=cells.stain_bank,
        stain_transfer_prob=config.stain_transfer_prob,
        stain_jitter_prob=config.stain_jitter_prob,
    )
    checkpoint = context.fit_config(
        name, config.samples // config.epoch_samples, monitor="val_loss", callbacks=(early_stopping,)
    ).fit(
        module,
        make_loader(dataset, config.batch, workers=context.options.workers, epoch_samples=config.epoch_samples),
        make_loader(EvalDataset(cells.validation, outputs, recipe.crop_margin), 32, workers=context.options.workers),
    )
    load_weights(module, checkpoint)
    return cast(NormalizedClassifier, module.average.module)


def compute_outputs(
    graph: nn.Module, cells: Sequence[CellRef], outputs: Outputs, context: TrainingContext
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Run a classifier on cells.

    Args:
        graph: A ClassifierGraph.
        cells: Labeled cells.
        outputs: What the classifier's outputs stand for.
        context: The context of the training.

    Returns:
        Logits (N, n_outputs) float32, penultimate features (N, D) float32 and true indices (N,) int64, logits and
        indices in the order of ``outputs``.
    """
    logits, features, y_true = [], [], []
    dataset = EvalDataset(cells, outputs, context.recipe.crop_margin)
    for rgb, index, _ in make_loader(dataset, 32, workers=context.options.workers):
        with torch.inference_mode():
            batch_logits, batch_features, *_ = graph(rgb.permute(0, 2, 3, 1))
        logits.append(batch_logits.float().numpy())
        features.append(batch_features.float().numpy())
        y_true.append(index.numpy())
    return np.concatenate(logits), np.concatenate(features), np.concatenate(y_true)

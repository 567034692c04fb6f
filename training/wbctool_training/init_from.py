"""Starting a training from exported models, to train them further or to add a laboratory's own cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from wbctool.datasets.labelled import GroupSplit
from wbctool.errors import ModelMismatch
from wbctool.inference.model_card import (
    Card,
    CellClassifierCard,
    ClassifierCard,
    GeneratorCard,
    load_fp32_card,
)
from wbctool.inference.model_folder import read_model_bytes
from wbctool.labels import CellClass, UnknownKind
from wbctool_training.export import FP16_SUFFIX
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.models.srgan import Generator
from wbctool_training.recipe import NetworkSizes

log = logging.getLogger(__name__)

_RELOADABLE_BACKBONES = {Backbone.VGG16, Backbone.VGG19}
_GRAPH_PREFIX = "network."  # of weights in the graphs of wbctool_training.export


def average_weights(
    folders: Sequence[Path],
    outputs: Sequence[CellClass | UnknownKind],
    group_split: GroupSplit,
    backbone: Backbone = Backbone.VGG19,
    white_balance: bool | None = None,
) -> dict[str, Tensor]:
    """Average the weights of classifiers that were fine-tuned from one start.

    On images unlike the training's, the mean may be more accurate than each of them.

    Args:
        folders: One for each classifier.
        outputs: What the outputs of the classifier at hand stand for (:meth:`Recipe.outputs_of`).
        group_split: The split of the training at hand.
        backbone: The backbone of the training at hand.
        white_balance: Whether the training at hand balances colors; None takes what the classifiers do.

    Returns:
        Weights by the names of NormalizedClassifier.

    Raises:
        ModelNotFound: As :func:`load_classifier_weights`.
        ModelMismatch: As there; or some classifiers see balanced colors and others do not, or not as the training does.

    References:
        Model soups: Wortsman et al. 2022, arXiv 2203.05482.
    """
    balanced = {folder: load_fp32_card(folder, ClassifierCard).training.white_balance for folder in folders}
    wanted = balanced[folders[0]] if white_balance is None else white_balance
    if others := [str(folder) for folder, is_balanced in balanced.items() if is_balanced != wanted]:
        raise ModelMismatch(
            f"the classifier of {', '.join(others)} was trained {'without' if wanted else 'with'} white balance, but "
            f"wanted is one that was trained {'with' if wanted else 'without'}"
        )
    all_weights = [load_classifier_weights(folder, outputs, group_split, backbone) for folder in folders]
    return {name: torch.stack([weights[name] for weights in all_weights]).mean(dim=0) for name in all_weights[0]}


def load_classifier_weights(
    folder: Path,
    outputs: Sequence[CellClass | UnknownKind],
    group_split: GroupSplit,
    backbone: Backbone = Backbone.VGG19,
) -> dict[str, Tensor]:
    """Load the weights of a folder's classifier.onnx.

    Args:
        folder: The folder of the model and its card.
        outputs: What the outputs of the classifier at hand stand for (:meth:`Recipe.outputs_of`).
        group_split: The split of the training at hand.
        backbone: The backbone of the training at hand.

    Returns:
        float32 weights by the names of NormalizedClassifier.

    Raises:
        ModelNotFound: The folder has no classifier.
        ModelMismatch: File and card differ; the classifier was trained on groups of the test split, which would make
            its results there worthless; a laboratory adapted it; it has other outputs or another backbone, or one whose
            BatchNorms export folds away; or its card does not record the training data.
    """
    card = load_fp32_card(folder, ClassifierCard)
    check_no_leakage(card, folder, group_split)
    _check_training_data_recorded(card, folder)
    if card.adaptation is not None:
        raise ModelMismatch(
            f"{folder / card.file} was adapted to {card.adaptation.laboratory} and cannot be trained further: start "
            "from the models that were adapted"
        )
    if (known := (*card.classes, *card.unknown_kinds)) != tuple(outputs):
        raise ModelMismatch(f"{folder / card.file} knows {', '.join(known)}, but wanted are {', '.join(outputs)}")
    card_backbone = card.training.backbone
    if card_backbone != backbone:
        raise ModelMismatch(f"{folder / card.file} is a {card_backbone}, not a {backbone}")
    if backbone not in _RELOADABLE_BACKBONES:
        raise ModelMismatch(
            f"{folder / card.file}: a {backbone} cannot be trained further, because its export cannot be read back"
        )
    network = NormalizedClassifier(CellClassifier(len(outputs), backbone=backbone), card.training.white_balance)
    return read_weights(onnx.load_from_string(read_model_bytes(card, folder)), network)


def load_network(content: bytes, card: CellClassifierCard) -> NormalizedClassifier:
    """Load a classifier from its ONNX file, whatever it was trained on.

    Args:
        content: The file.
        card: Its card.

    Returns:
        The network in evaluation mode.

    Raises:
        ModelMismatch: The classifier is no VGG; the exports of other networks cannot be read back.
    """
    backbone = Backbone(card.training.backbone)
    if backbone not in _RELOADABLE_BACKBONES:
        raise ModelMismatch(f"{card.file} is a {backbone}: only a VGG's weights can be read back")
    network = CellClassifier(len(card.classes) + len(card.unknown_kinds), backbone=backbone)
    normalized = NormalizedClassifier(network, card.training.white_balance)
    normalized.load_state_dict(read_weights(onnx.load_from_string(content), normalized), strict=True)
    return normalized.eval()


def load_generator(folder: Path, group_split: GroupSplit, lr: Tensor, sizes: NetworkSizes) -> Generator:
    """Load the generator of a folder's generator.onnx for further training.

    Export folds every BatchNorm into the convolution before it. Here each BatchNorm gets the mean and variance of its
    input for ``lr`` as statistics, and the scale and shift that undo the normalization. So at first it changes
    nothing, neither with running nor with batch statistics.

    Args:
        folder: The folder of the model and its card.
        group_split: The split of the training at hand.
        lr: (N, 3, h, w) float in [0, 1], low-resolution cells of the training at hand.
        sizes: The sizes of the training at hand.

    Raises:
        ModelNotFound: The folder has no generator.
        ModelMismatch: File and card differ, the card does not record the training data, the generator was trained
            on groups of the test split, or it is of another size.
    """
    card = load_fp32_card(folder, GeneratorCard)
    check_no_leakage(card, folder, group_split)
    _check_training_data_recorded(card, folder)
    network = Generator(sizes.generator_blocks, sizes.generator_width)
    n_parameters = sum(p.numel() for p in network.parameters())
    if card.parameters != n_parameters:
        raise ModelMismatch(
            f"{folder / card.file} has {card.parameters} parameters, but the recipe's generator, of "
            f"{sizes.generator_blocks} blocks and width {sizes.generator_width}, has {n_parameters}"
        )
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    batchnorm_state = {
        f"{name}.{key}": value for name, norm in norms.items() for key, value in norm.state_dict().items()
    }
    model = onnx.load_from_string(read_model_bytes(card, folder))
    network.load_state_dict(
        batchnorm_state | read_weights(model, network) | _read_prelu_slopes(model, network), strict=True
    )
    hooks = [norm.register_forward_hook(_reset_batchnorm) for norm in norms.values()]
    with torch.no_grad():
        network.eval()(lr)
    for hook in hooks:
        hook.remove()
    return network.train()


def _reset_batchnorm(norm: nn.Module, inputs: tuple[Tensor], _: Any) -> Tensor:
    """Set a BatchNorm's statistics to those of its input and return that unchanged, as a forward hook."""
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    (features,) = inputs
    variance, mean = torch.var_mean(features, dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean)
    return features


def check_no_leakage(card: Card, folder: Path, group_split: GroupSplit) -> None:
    """Check that a model was not trained on groups of the test split.

    Args:
        card: The model's card.
        folder: The folder of the model.
        group_split: The split of the training at hand.

    Raises:
        ModelMismatch: It was.
    """
    if leakage := describe_leakage(card, folder, group_split):
        raise ModelMismatch(leakage)


def describe_leakage(card: Card, folder: Path, group_split: GroupSplit) -> str:
    """Say that a model was, or may have been, trained on groups of the test split; empty if it was not.

    Args:
        card: The model's card.
        folder: The folder of the model.
        group_split: The split of the training at hand.
    """
    if not group_split.has_leakage(card.training):
        return ""
    verb = "may have been" if card.training.datasets is None else "was"
    card_split = GroupSplit.from_card(card.training)
    return f"{folder / card.file} {verb} trained on groups of this training's test split ({card_split})"


def _check_training_data_recorded(card: Card, folder: Path) -> None:
    """Raise ModelMismatch if a card does not record the training data, which the new model's card must include."""
    if card.training.datasets is None or card.training.groups is None:
        raise ModelMismatch(
            f"{folder / card.file}: its card does not say what it was trained on (datasets and groups in training)"
        )


def _read_prelu_slopes(model: onnx.ModelProto, network: Generator) -> dict[str, Tensor]:
    """Return the PReLUs' slopes by name; export renames them but keeps their order."""
    values = _read_initializers(model)
    names = [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.PReLU)]
    nodes = [node for node in model.graph.node if node.op_type == "PRelu"]
    return {name: values[node.input[1]].flatten() for name, node in zip(names, nodes, strict=True)}


def read_weights(model: onnx.ModelProto, network: nn.Module) -> dict[str, Tensor]:
    """Return a model's weights by the names of the network that was exported.

    Args:
        model: The exported model.
        network: A network of the same form. Export leaves its biases out if they are zero.

    Returns:
        float32 weights.
    """
    biases = {name: torch.zeros_like(p.data) for name, p in network.named_parameters() if name.endswith(".bias")}
    return biases | {
        name.removeprefix(_GRAPH_PREFIX): value
        for name, value in _read_initializers(model).items()
        if name.startswith(_GRAPH_PREFIX)
    }


def _read_initializers(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Return the initializers by name, in float32 whatever type they are stored in."""
    return {
        tensor.name.removesuffix(FP16_SUFFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
        for tensor in model.graph.initializer
    }

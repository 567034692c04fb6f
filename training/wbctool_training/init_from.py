"""Going on from trained models: more training, or the cells of a laboratory of one's own."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
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
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    ModelCard,
    default_models_dir,
    kind_name,
    load_fp32_card,
    read_model_bytes,
)
from wbctool_training.context import TrainingContext
from wbctool_training.export import FP16_SUFFIX, write_model
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.srgan import Generator
from wbctool_training.recipe import Recipe

log = logging.getLogger(__name__)

_WITHOUT_BATCHNORM = {Backbone.VGG16, Backbone.VGG19}
_GRAPH_PREFIX = "network."  # of wbctool_training.export's graphs
_REQUIRED_MODELS = {"srgan": ("detector",), "classifier": ("detector", "srgan")}
_CARD_TYPES: dict[str, type[ModelCard]] = {
    "detector": DetectorCard,
    "srgan": GeneratorCard,
    "classifier": ClassifierCard,
}


def copy_unchanged_models(context: TrainingContext, stages: Collection[str]) -> None:
    """Copies the models that none of ``stages`` trains from the first start into the output, where they are missing.

    Raises ModelNotFound where it lacks one, ModelMismatch where that was trained on sources that are held back here.
    """
    if not context.init_from:
        return
    folder = context.init_from[0]
    for stage, kind in _CARD_TYPES.items():
        if stage not in stages and not (context.out / f"{kind_name(kind)}.json").is_file():
            card = load_fp32_card(folder, kind)
            _check_no_leakage(card, folder, context.group_split)
            write_model(read_model_bytes(card, folder), card, context.out)


def copy_bundled_models(context: TrainingContext, stages: Collection[str]) -> None:
    """Copies what ``stages`` work with, but neither train nor find in the output, from the models of the package.

    They find and enlarge cells; where they saw what is held back here, their use says so (Workplace.warn_on_leakage).
    """
    for helper in sorted({helper for stage in stages for helper in _REQUIRED_MODELS.get(stage, ())} - set(stages)):
        kind = _CARD_TYPES[helper]
        if helper == "srgan" and not context.recipe.classifier.super_resolved_share:
            continue
        if not (context.out / f"{kind_name(kind)}.json").is_file():
            bundled = default_models_dir()
            log.info("%s has no %s: the shipped one is used", context.out, kind_name(kind))
            card = load_fp32_card(bundled, kind)
            write_model(read_model_bytes(card, bundled), card, context.out)


def average_weights(
    folders: Sequence[Path], recipe: Recipe, group_split: GroupSplit, backbone: Backbone = Backbone.VGG19
) -> dict[str, Tensor]:
    """The mean of some classifiers' weights (:func:`load_classifier_weights`), whose trainings had one start.

    On pictures unlike the training's such a mean may err less than each of them (model soups, Wortsman et al. 2022,
    arXiv 2203.05482).
    """
    all_weights = [load_classifier_weights(folder, recipe, group_split, backbone) for folder in folders]
    return {name: torch.stack([weights[name] for weights in all_weights]).mean(dim=0) for name in all_weights[0]}


def load_classifier_weights(
    folder: Path, recipe: Recipe, group_split: GroupSplit, backbone: Backbone = Backbone.VGG19
) -> dict[str, Tensor]:
    """The weights of a folder's classifier.onnx, float32, as wbctool_training.modules.classifier.Normalised names them.

    Raises ModelNotFound where there is none; ModelMismatch where it was trained on sources that ``group_split`` holds
    back, whose figures would then be worthless, or where it is another network or tells other classes apart than asked,
    or where it would not be trained on and saw other whites, or where its card does not say what it was trained on.
    """
    card = load_fp32_card(folder, ClassifierCard)
    _check_no_leakage(card, folder, group_split)
    _check_training_data_recorded(card, folder)
    if card.classes != recipe.classes:
        raise ModelMismatch(
            f"{folder / card.file} knows the classes {', '.join(card.classes)}, which are not the recipe's"
        )
    card_backbone = card.training.get("backbone", Backbone.VGG19)
    if card_backbone != backbone:
        raise ModelMismatch(f"{folder / card.file} is a {card_backbone}, not a {backbone}")
    white_balance = card.training.get("white_balance", False)
    if not recipe.classifier.samples and white_balance != recipe.classifier.white_balance:
        raise ModelMismatch(f"{folder / card.file} was trained with white_balance {white_balance}, unlike the recipe")
    if backbone not in _WITHOUT_BATCHNORM:
        raise ModelMismatch(
            f"{folder / card.file}: export folds a {backbone}'s BatchNorms away; it cannot be trained further"
        )
    return _read_weights(onnx.load_from_string(read_model_bytes(card, folder)))


def load_generator(folder: Path, group_split: GroupSplit, lr: Tensor) -> Generator:
    """The generator of a folder's generator.onnx, to be trained on; raises as :func:`load_classifier_weights`.

    lr: [B, 3, h, w] float in [0, 1], cells as it will be trained on. Export folds every BatchNorm into the convolution
    before it; here each gets the mean and deviation that its channels have on ``lr``, and a scale and shift that give
    them back. So it changes nothing at first, neither with its own statistics nor with those of a batch.
    """
    card = load_fp32_card(folder, GeneratorCard)
    _check_no_leakage(card, folder, group_split)
    _check_training_data_recorded(card, folder)
    network = Generator()
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    batchnorm_state = {
        f"{name}.{key}": value for name, norm in norms.items() for key, value in norm.state_dict().items()
    }
    model = onnx.load_from_string(read_model_bytes(card, folder))
    network.load_state_dict(batchnorm_state | _read_weights(model) | _read_prelu_slopes(model, network), strict=True)
    hooks = [norm.register_forward_hook(_reset_batchnorm) for norm in norms.values()]
    with torch.no_grad():
        network.eval()(lr)
    for hook in hooks:
        hook.remove()
    return network.train()


def _reset_batchnorm(norm: nn.Module, inputs: tuple[Tensor], _: Any) -> Tensor:
    """A forward hook: the BatchNorm's statistics become those of its input, which it then passes on unchanged."""
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


def _check_no_leakage(card: Card, folder: Path, group_split: GroupSplit) -> None:
    if group_split.has_leakage(card.training):
        card_splitting = GroupSplit.from_card(card.training)
        raise ModelMismatch(f"{folder / card.file} was trained on sources that are held back here ({card_splitting})")


def _check_training_data_recorded(card: Card, folder: Path) -> None:
    """The new model's card must say what it has seen by way of this one; asked before hours of training, not after."""
    datasets, n_groups = card.training.get("datasets"), card.training.get("groups")
    if not isinstance(datasets, dict) or not all(isinstance(n, int) for n in (n_groups, *datasets.values())):
        raise ModelMismatch(
            f"{folder / card.file}: its card does not say what it was trained on (origins and sources in training)"
        )


def _read_prelu_slopes(model: onnx.ModelProto, network: Generator) -> dict[str, Tensor]:
    """The PReLUs' slopes: export shapes them anew, and they lose their names but not their order."""
    values = _read_initializers(model)
    names = [f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.PReLU)]
    nodes = [node for node in model.graph.node if node.op_type == "PRelu"]
    return {name: values[node.input[1]].flatten() for name, node in zip(names, nodes, strict=True)}


def _read_weights(model: onnx.ModelProto) -> dict[str, Tensor]:
    """As the network that was exported names them."""
    return {
        name.removeprefix(_GRAPH_PREFIX): value
        for name, value in _read_initializers(model).items()
        if name.startswith(_GRAPH_PREFIX)
    }


def _read_initializers(model: onnx.ModelProto) -> dict[str, Tensor]:
    """By name, in float32 whatever they are stored in."""
    return {
        tensor.name.removesuffix(FP16_SUFFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy()).float()
        for tensor in model.graph.initializer
    }

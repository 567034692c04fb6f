"""Going on from a trained classifier: more training, or the cells of a laboratory of one's own."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from training.export import FP16_SUFFIX
from training.recipe import Recipe
from wbctool.cards import ClassifierCard, plain_card, read_model_bytes
from wbctool.errors import ModelMismatch
from wbctool.lab.labelled import Splitting

_GRAPH_PREFIX = "network."  # of training.export.ClassifierGraph


def trained_weights(folder: Path, recipe: Recipe, splitting: Splitting) -> dict[str, Tensor]:
    """The weights of a folder's classifier.onnx, float32, as training.tasks.classifier.Normalised names them.

    Raises ModelNotFound where there is none; ModelMismatch where it was trained on sources that ``splitting`` holds
    back, whose figures would then be worthless, or where it tells other classes apart than the recipe.
    """
    card = plain_card(folder, ClassifierCard)
    theirs = Splitting.of_card(card.training)
    if theirs.fold != splitting.fold or not set(splitting.left_out) <= set(theirs.left_out):
        raise ModelMismatch(f"{folder / card.file} was trained on sources that are held back here ({theirs})")
    if card.classes != recipe.classes:
        raise ModelMismatch(f"{folder / card.file} knows the classes {', '.join(card.classes)}: not the recipe's")
    model = onnx.load_from_string(read_model_bytes(card, folder))
    return {
        weight.name.removeprefix(_GRAPH_PREFIX).removesuffix(FP16_SUFFIX): torch.from_numpy(
            numpy_helper.to_array(weight).copy()
        ).float()
        for weight in model.graph.initializer
        if weight.name.startswith(_GRAPH_PREFIX)
    }

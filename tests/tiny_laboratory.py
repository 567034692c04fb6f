"""A laboratory of drawn cells that the tiny models do not know: what they call its cells is not what it calls them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tiny_models import write_tiny_models

from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.inference.model_card import ClassifierCard, load_fp32_card
from wbctool.inference.training_features import (
    encode_training_features,
    read_training_features,
    training_features_path,
)

COLORS = {"monocyte": (60, 20, 120), "basophil": (150, 60, 190)}
ORDER = ("monocyte", "basophil", "basophil", "monocyte", "monocyte", "monocyte", "basophil", "basophil")
CELL_PX, PITCH_PX = 20, 48
_BLOCK_PX = 4


def draw(path: Path, labels: Sequence[str], seed: int, contrast: int = 0) -> Path:
    """Draw cells of the laboratory on glass, in one row; with contrast all differ."""
    rng = np.random.default_rng(seed)
    rgb = np.full((PITCH_PX * 2, PITCH_PX * len(labels), 3), 240, np.uint8)
    for i, label in enumerate(labels):
        x, y = i * PITCH_PX + (PITCH_PX - CELL_PX) // 2, int(rng.integers(20, 56))
        color = np.array(COLORS[label]) + rng.integers(-9, 10, 3)
        if contrast:
            blocks = rng.integers(-contrast, contrast + 1, (CELL_PX // _BLOCK_PX, CELL_PX // _BLOCK_PX, 1))
            color = color + np.kron(blocks, np.ones((_BLOCK_PX, _BLOCK_PX, 1))) * np.array([1, 0.2, 1])
            x += int(rng.integers(-9, 10))  # cells in step would look like a picture in disorder
        rgb[y : y + CELL_PX, x : x + CELL_PX] = np.clip(color, 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def write_models_of_elsewhere(folder: Path) -> Path:
    """Write tiny models whose first reader has a convolution and finds the laboratory's slides unfamiliar."""
    write_tiny_models(folder)
    card = load_fp32_card(folder, ClassifierCard)
    training = read_training_features(folder, card)
    model = onnx.load(folder / card.file)
    mean = np.einsum("oi,hw->oihw", np.eye(3), np.full((4, 4), 1 / 16)).astype(np.float32)
    nodes = [
        model.graph.node[0],
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "mean"], ["blocks"], name="blocks", strides=[4, 4]),
        helper.make_node("ReduceMean", ["blocks", "sides"], ["color"], keepdims=0),
        *model.graph.node[2:],
    ]
    constants = {"mean": mean, "sides": np.array([2, 3], np.int64)}
    kept = [held for held in model.graph.initializer if held.name != "axes"]
    held = [*kept, *(numpy_helper.from_array(value, name) for name, value in constants.items())]
    rgb = helper.make_tensor_value_info("rgb", TensorProto.UINT8, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "tiny", [rgb], list(model.graph.output), held)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    (folder / card.file).write_bytes(content)
    space = FeatureSpace.from_arrays(np.eye(3, dtype=np.float32) / 10, np.full((1, 3), 2, np.float32))
    rule = FamiliarityRule(space=space, max_mean_distance=9, min_cells=5, min_confidence=1)
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest(), "familiarity": rule})
    (folder / "classifier.json").write_text(card.model_dump_json())
    training_features_path(folder, ClassifierCard).write_bytes(encode_training_features(training, card.sha256))
    return folder

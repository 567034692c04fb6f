"""Models of a few kilobytes that a real `wbctool run` loads, for tests in which the shipped ones would only cost time.

The detector finds what is dark in green light; the classifier distinguishes colors.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wbctool.inference.classifier_head import read_last_layer
from wbctool.inference.model_card import (
    CellClassifierCard,
    ClassifierCard,
    CompactCard,
    DetectorCard,
    GeneratorCard,
    ModelCard,
    load_fp32_card,
)
from wbctool.inference.training_features import TrainingFeatures, encode_training_features, training_features_path
from wbctool.labels import CellClass
from wbctool.types.cells import ObjectClass

_CARD_FIELDS = {"version": "0", "sha256": "0" * 64, "parameters": 0, "tool_version": "test", "recipe": "by hand"}
_STRIDE = 4


def write_tiny_models(folder: Path) -> Path:
    """Write a detector, a generator and two readers that agree, with their cards; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder,
        _detector(),
        DetectorCard(
            name="detector",
            file="detector.onnx",
            training={},
            classes=tuple(ObjectClass),
            stride=_STRIDE,
            input_long_side_px=96,
            size_divisor=32,
            target_red_cell_px=8,
            min_red_cell_px=4,
            score_threshold=0.5,
            nms_iou_threshold=0.3,
            **_CARD_FIELDS,
        ),
    )
    generator = GeneratorCard(
        name="generator", file="generator.onnx", training={}, scale=4, min_px=32, max_px=64, **_CARD_FIELDS
    )
    _write(folder, _generator(), generator)
    for name, card_type in (("classifier", ClassifierCard), ("compact", CompactCard)):
        card = card_type(
            name=name,
            file=f"{name}.onnx",
            training={},
            classes=tuple(CellClass),
            input_px=128,
            crop_margin=1.25,
            temperature=1.0,
            confidence_threshold=0.9,
            **_CARD_FIELDS,
        )
        _write(folder, _classifier(), card)
        _write_training_features(folder, load_fp32_card(folder, card_type))
    return folder


def _write_training_features(folder: Path, card: CellClassifierCard) -> None:
    """Write features of cells that the classifier calls by their classes."""
    layer = read_last_layer((folder / card.file).read_bytes())
    features = np.random.default_rng(4).uniform(-100, 50, (200, 3)).astype(np.float32)
    cells = TrainingFeatures(features, layer.compute_logits(features).argmax(axis=1))
    training_features_path(folder, type(card)).write_bytes(encode_training_features(cells, card.sha256))


def _write(folder: Path, model: onnx.ModelProto, card: ModelCard) -> None:
    content = model.SerializeToString()
    (folder / card.file).write_bytes(content)
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    (folder / card.file).with_suffix(".json").write_text(card.model_dump_json())


def _model(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], outputs: dict[str, tuple[int, int]]
) -> onnx.ModelProto:
    rgb = helper.make_tensor_value_info("rgb", TensorProto.UINT8, ["n", "h", "w", 3])
    results = [helper.make_tensor_value_info(name, kind, [None] * rank) for name, (kind, rank) in outputs.items()]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [rgb], results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _detector() -> onnx.ModelProto:
    """Heat of nucleated cells: sigmoid((115 - green) / 8) of 4×4 blocks; boxes of 16×16 scaled pixels around them."""
    nodes = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["nchw"], ["blocks"], kernel_shape=[_STRIDE] * 2, strides=[_STRIDE] * 2),
        helper.make_node("Conv", ["blocks", "to_heat", "bias"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["heat"]),
        helper.make_node("Conv", ["blocks", "to_sides", "side_px"], ["sides"]),
    ]
    to_heat = np.zeros((3, 3, 1, 1), np.float32)
    to_heat[0, 1] = -1 / 8
    constants = {
        "to_heat": to_heat,
        "bias": np.array([115 / 8, -9, -9], np.float32),
        "to_sides": np.zeros((4, 3, 1, 1), np.float32),
        "side_px": np.full(4, 8, np.float32),
    }
    return _model(nodes, constants, {"heat": (TensorProto.FLOAT, 4), "sides": (TensorProto.FLOAT, 4)})


def _generator() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Resize", ["nchw", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Transpose", ["large"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["sr"], to=TensorProto.UINT8),
    ]
    return _model(nodes, {"scales": np.array([1, 1, 4, 4], np.float32)}, {"sr": (TensorProto.UINT8, 4)})


def _classifier() -> onnx.ModelProto:
    """The features are the mean color; the logits are these times a fixed matrix, the Grad-CAM maps have 4×4 points."""
    nodes = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["color"], keepdims=0),
        helper.make_node("Sub", ["color", "middle"], ["features"]),
        helper.make_node("Gemm", ["features", "to_logits", "bias"], ["logits"], transB=1),
        helper.make_node("Transpose", ["float"], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["channels"], ["tiles"], kernel_shape=[32] * 2, strides=[32] * 2),
        helper.make_node("Reshape", ["tiles", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["to_logits", "flat"], ["evidence"]),
        helper.make_node("Relu", ["evidence"], ["positive"]),
        helper.make_node("ReduceMax", ["positive", "point_axis"], ["peak"]),
        helper.make_node("Max", ["peak", "one"], ["positive_peak"]),
        helper.make_node("Div", ["positive", "positive_peak"], ["relative"]),
        helper.make_node("Mul", ["relative", "white"], ["gray"]),
        helper.make_node("Cast", ["gray"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Reshape", ["bytes", "map_shape"], ["cam"]),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "middle": np.array([190, 165, 205], np.float32),
        "to_logits": np.random.default_rng(3).normal(0, 0.1, (3, len(CellClass))).astype(np.float32).T.copy(),
        "bias": np.zeros(len(CellClass), np.float32),
        "flat_shape": np.array([0, 3, 16], np.int64),
        "map_shape": np.array([0, len(CellClass), 4, 4], np.int64),
        "point_axis": np.array([2], np.int64),
        "one": np.array(1, np.float32),
        "white": np.array(255, np.float32),
    }
    outputs = {"logits": (TensorProto.FLOAT, 2), "features": (TensorProto.FLOAT, 2), "cam": (TensorProto.UINT8, 4)}
    return _model(nodes, constants, outputs)

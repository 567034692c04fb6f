"""From fp32 graphs to int8 ones, on graphs small enough to see through."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from wbctool.quantization.int8 import calibrate_ranges, prepare_for_quantization, quantize

RNG = np.random.default_rng(5)
CELLS = [RNG.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8) for _ in range(4)]
TINY = RNG.normal(0, 0.002, (3, 3, 3, 3)).astype(np.float32)


def graph(weight: np.ndarray, *, half: bool = False, **conv: object) -> onnx.ModelProto:
    """rgb -> one 3×3 convolution, ReLU -> map; its mean -> logits. half: the weight is stored in fp16 behind a Cast."""
    nodes = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w", "b"], ["conv"], **({"pads": [1, 1, 1, 1]} | conv)),
        helper.make_node("Relu", ["conv"], ["map"]),
        helper.make_node("ReduceMean", ["map", "axes"], ["logits"], keepdims=0),
    ]
    constants = {"w": weight, "b": np.array([0.5, 0, -0.5], np.float32), "axes": np.array([2, 3], np.int64)}
    if half:
        constants["w.fp16"] = constants.pop("w").astype(np.float16)
        nodes.insert(0, helper.make_node("Cast", ["w.fp16"], ["w"], to=TensorProto.FLOAT))
    inputs = [helper.make_tensor_value_info("rgb", TensorProto.UINT8, ["n", 8, 8, 3])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "map")]
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "small", inputs, outputs, held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def identity(weight: np.ndarray) -> np.ndarray:
    grown = weight.copy()
    grown[np.arange(3), np.arange(3), 1, 1] += 1
    return grown


def run(model: onnx.ModelProto | bytes, rgb: np.ndarray = CELLS[0]) -> list[np.ndarray]:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(["logits", "map"], {"rgb": rgb})


def int8(model: onnx.ModelProto, kept: tuple[str, ...] = ()) -> bytes:
    return quantize(calibrate_ranges(model.SerializeToString(), CELLS), kept)


def test_prepare_for_quantization_factors_out_identity_without_change() -> None:
    ready = prepare_for_quantization(graph(identity(TINY)))
    assert [node.op_type for node in ready.graph.node].count("Add") == 1
    (weight,) = (numpy_helper.to_array(t) for t in ready.graph.initializer if t.name == "w")
    np.testing.assert_allclose(weight, TINY, atol=1e-6)
    np.testing.assert_allclose(run(ready)[1], run(graph(identity(TINY)))[1], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("weight", "conv"),
    [
        (TINY, {}),
        (identity(TINY), {"strides": [2, 2]}),
        (identity(TINY), {"pads": [0, 0, 0, 0]}),
        (identity(TINY), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        (identity(TINY) * np.array([1, 1, 0.2], np.float32)[:, None, None, None], {}),
    ],
)
def test_prepare_for_quantization_keeps_other_layers(weight: np.ndarray, conv: dict[str, object]) -> None:
    ready = prepare_for_quantization(graph(weight, **conv))
    assert "Add" not in [node.op_type for node in ready.graph.node]
    np.testing.assert_array_equal(run(ready)[1], run(graph(weight, **conv))[1])


def test_quantize_keeps_small_weights_of_identity_layer() -> None:
    """255 steps from -1 to 1 are 0.008 each: weights of 0.002 beside a 1 would be rounded away."""
    model = graph(identity(TINY))
    float_map = CELLS[0].transpose(0, 3, 1, 2).astype(np.float32)
    added = run(model)[0] - float_map.mean(axis=(2, 3))
    kept = run(int8(model))[0] - float_map.mean(axis=(2, 3))
    assert np.abs(added).max() > 0.4
    np.testing.assert_allclose(kept, added, atol=0.1 * np.abs(added).max())


def test_quantize_takes_weights_in_half_precision() -> None:
    weight = RNG.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float16).astype(np.float32)
    quantised = onnx.load_from_string(int8(graph(weight, half=True)))
    assert not [t for t in quantised.graph.initializer if t.data_type == TensorProto.FLOAT16]
    (stored,) = (t for t in quantised.graph.initializer if list(t.dims) == [3, 3, 3, 3])
    assert stored.data_type == TensorProto.INT8
    assert np.abs(numpy_helper.to_array(stored)).reshape(3, -1).max(axis=1).tolist() == [127, 127, 127]  # per channel


def test_quantize_is_near_fp32_with_the_same_outputs() -> None:
    model = graph(RNG.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32))
    expected, actual = run(model), run(int8(model))
    for one, other in zip(expected, actual, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(other, one, atol=0.02 * np.abs(one).max())


def test_quantize_layer_in_fp32_computes_as_before() -> None:
    model = graph(RNG.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32))
    layers = calibrate_ranges(model.SerializeToString(), CELLS).layers
    assert len(layers) == 1
    content = int8(model, layers)
    stored = {t.data_type for t in onnx.load_from_string(content).graph.initializer if len(t.dims) == 4}
    assert stored == {TensorProto.FLOAT}


def test_quantize_same_cells_give_the_same_bytes(tmp_path: Path) -> None:
    """In processes whose sets have other orders."""
    (tmp_path / "m.onnx").write_bytes(graph(identity(TINY), half=True).SerializeToString())
    code = (
        "import sys, hashlib, numpy as np; from wbctool.quantization.int8 import calibrate, quantise\n"
        "cells = [np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)]\n"
        "content = quantise(calibrate(open(sys.argv[1], 'rb').read(), cells), ())\n"
        "print(hashlib.sha256(content).hexdigest())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "m.onnx"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1

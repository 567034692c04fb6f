"""A doubling and the convolution after it become one transposed convolution that gives the same numbers."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from wbctool_training.upsampling import merge_upsampling

RNG = np.random.default_rng(0)


def _model(
    kernel_px: int = 3, pad_px: int | None = None, stride: int = 1, mode: str = "nearest", extra: bool = False
) -> onnx.ModelProto:
    """Two channels are doubled and convolved to five; ``extra`` makes the doubling an output, too."""
    nodes = [
        helper.make_node(
            "Resize",
            ["x", "", "scales"],
            ["doubled"],
            mode=mode,
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        helper.make_node(
            "Conv",
            ["doubled", "weight", "bias"],
            ["y"],
            kernel_shape=[kernel_px] * 2,
            pads=[kernel_px // 2 if pad_px is None else pad_px] * 4,
            strides=[stride] * 2,
        ),
        *([helper.make_node("Relu", ["doubled"], ["z"])] if extra else []),
    ]
    constants = {
        "scales": np.array([1, 1, 2, 2], np.float32),
        "weight": RNG.normal(size=(5, 2, kernel_px, kernel_px)).astype(np.float32),
        "bias": RNG.normal(size=5).astype(np.float32),
    }
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, "h", "w"])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ("y", *("z" * extra))]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "doubling", [x], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _run(model: onnx.ModelProto, x: np.ndarray) -> Sequence[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: Sequence[np.ndarray] = session.run(None, {"x": x})
    return outputs


@pytest.mark.parametrize("kernel_px", [1, 3, 9])
@pytest.mark.parametrize("size", [(7, 4), (12, 12)])
def test_merge_upsampling_gives_the_same_numbers(kernel_px: int, size: tuple[int, int]) -> None:
    model = _model(kernel_px)
    x = RNG.normal(size=(2, 2, *size)).astype(np.float32)
    (expected,) = _run(model, x)
    weights = {t.name: t.SerializeToString() for t in model.graph.initializer if t.name in ("weight", "bias")}
    merged = merge_upsampling(model)
    (actual,) = _run(merged, x)
    assert actual.shape == (2, 5, 2 * size[0], 2 * size[1])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    assert not {"Resize", "Conv"} & {node.op_type for node in merged.graph.node}
    assert weights.items() <= {t.name: t.SerializeToString() for t in merged.graph.initializer}.items()


@pytest.mark.parametrize(
    "model", [_model(pad_px=0), _model(stride=2), _model(mode="linear"), _model(extra=True), _model(kernel_px=2)]
)
def test_merge_upsampling_leaves_other_pairs(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert merge_upsampling(model).SerializeToString() == before

"""An fp32 ONNX model as an int8 one: static quantisation in QDQ form, by onnxruntime.quantization.

Weights are signed, symmetric and per channel, activations unsigned and per tensor, the fastest on x86 with VNNI. The
graph's inputs and outputs stay as they are, and so do its dense layers, which cost nothing.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wbctool.optional import require_extra

Rgb = NDArray[np.uint8]

_CONV = "Conv"
_INT8_OP_TYPES = (_CONV, "Relu", "MaxPool", "Resize")  # what runs faster in int8, or can hand on int8 as it is
_IDENTITY_THRESHOLD = 0.5  # a centre weight above this is nearer to 1 than to 0


@dataclass(frozen=True, slots=True)
class CalibratedModel:
    """A model made ready (:func:`prepare_for_quantization`) and the range of each of its tensors. layers: its convolutions' names."""

    model: Any
    ranges: Any
    layers: tuple[str, ...]


def calibrate_ranges(content: bytes, batches: Sequence[Rgb]) -> CalibratedModel:
    """content: an fp32 ONNX file. batches: (N, H, W, 3) uint8 RGB each, what the model is to see in use.

    Raises MissingDependency where `onnx` is not installed.
    """
    with require_extra("optimize", "wbctool models optimize"):
        import onnx
        from onnxruntime.quantization import CalibrationMethod, create_calibrator
    model = prepare_for_quantization(onnx.load_from_string(content))
    with tempfile.TemporaryDirectory() as folder, _silence_onnxruntime():
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            op_types_to_calibrate=list(_INT8_OP_TYPES),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
        )
        calibrator.collect_data(_CalibrationReader(model.graph.input[0].name, batches))
        ranges = calibrator.compute_data()
    return CalibratedModel(model, ranges, tuple(node.name for node in model.graph.node if node.op_type == _CONV))


def quantize(calibrated: CalibratedModel, fp32_layers: Sequence[str]) -> bytes:
    """The int8 model as an ONNX file; the same bytes for the same model, cells and ``fp32_layers`` (layers' names).

    What reads an output of the graph stays fp32 too: behind the classifier's last map are its dense layers.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.ModelProto()
    model.CopyFrom(calibrated.model)
    outputs = {output.name for output in model.graph.output}
    output_nodes = [node.name for node in model.graph.node if outputs.intersection(node.input)]
    with _silence_onnxruntime():
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            False,  # no reduced range: wbctool.inference.session sees to processors whose sums would overflow
            QuantType.QInt8,
            QuantType.QUInt8,
            calibrated.ranges,
            [],
            [*fp32_layers, *output_nodes],
            list(_INT8_OP_TYPES),
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    quantized = quantizer.model.model
    for entries in (quantized.graph.initializer, quantized.graph.value_info):
        entries.sort(key=lambda entry: entry.name)
    del quantized.metadata_props[:]
    return bytes(quantized.SerializeToString(deterministic=True))


def count_convolutions(content: bytes) -> int:
    """Of an ONNX file."""
    import onnx

    return sum(node.op_type == _CONV for node in onnx.load_from_string(content).graph.node)


def prepare_for_quantization(model: Any) -> Any:
    """model: an onnx.ModelProto -> the same function, of which int8 can be made with little loss.

    The convolutions' weights become constants, identities leave them, every node has a name, every value a type.
    """
    import onnx

    _fold_weights(model)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}-{number}"
    for node in [node for node in model.graph.node if node.op_type == _CONV]:
        _factor_out_identity(model, node)
    return onnx.shape_inference.infer_shapes(model)


def _fold_weights(model: Any) -> None:
    """The convolutions' weights that are stored in fp16 behind a Cast become fp32 constants; the dense layers' stay."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored}
    used = {name for node in model.graph.node if node.op_type == _CONV for name in node.input}
    for name in sorted(used & casts.keys()):
        tensor = stored[casts[name].input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
        model.graph.node.remove(casts[name])


def _factor_out_identity(model: Any, node: Any) -> None:
    """conv(x, W) = conv(x, W - I) + x, where all of W's middle diagonal is nearer to 1 than to 0.

    A layer that was grown as an identity (Net2Net, Chen 2016, arXiv 1511.05641) is 1 plus weights of thousandths, which
    255 steps from -1 to 1 would lose; once the 1 is out, the steps are as fine as they need to be.
    """
    from onnx import helper, numpy_helper

    tensor = next((tensor for tensor in model.graph.initializer if tensor.name == node.input[1]), None)
    users = sum(node.input[1] in other.input for other in model.graph.node)
    if tensor is None or users != 1:
        return
    weight = numpy_helper.to_array(tensor).astype(np.float32)
    if not _is_shape_preserving(node, weight.shape):
        return
    channels, middle = np.arange(len(weight)), weight.shape[2] // 2
    if not (weight[channels, channels, middle, middle] > _IDENTITY_THRESHOLD).all():
        return
    weight[channels, channels, middle, middle] -= 1
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    whole, rest = node.output[0], f"{node.output[0]}.rest"
    node.output[0] = rest
    add = helper.make_node("Add", [rest, node.input[0]], [whole], name=f"{node.name}.identity")
    model.graph.node.insert(list(model.graph.node).index(node) + 1, add)


def _is_shape_preserving(node: Any, shape: tuple[int, ...]) -> bool:
    """Whether a convolution of weights (out, in, h, w) gives what has its input's shape, pixel upon pixel."""
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    is_dense = set(attributes.get("strides", [1])) | set(attributes.get("dilations", [1])) == {1}
    is_square = len(shape) == 4 and shape[0] == shape[1] and shape[2] == shape[3] and shape[2] % 2 == 1
    is_same_padded = attributes.get("pads", [0]) == [shape[-1] // 2] * 4 or attributes.get("auto_pad") in {
        b"SAME_UPPER",
        b"SAME_LOWER",
    }
    return attributes.get("group", 1) == 1 and is_dense and is_square and is_same_padded


class _CalibrationReader:
    """A calibration data reader, as onnxruntime asks for one."""

    def __init__(self, name: str, batches: Sequence[Rgb]) -> None:
        self._feeds: Iterator[dict[str, Rgb]] = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, Rgb] | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, Rgb]]:
        return self._feeds


@contextmanager
def _silence_onnxruntime() -> Iterator[None]:
    """Without onnxruntime's advice to its developers, which goes to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

"""Static int8 quantization of an fp32 ONNX model in QDQ form (Jacob et al. 2018, arXiv 1712.05877).

Weights are signed, symmetric and per channel; activations are unsigned and per tensor, which is fastest on x86 with
VNNI. Inputs, outputs and dense layers keep fp32: the dense layers take next to no time.
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

from wbctool.optional import require_extra
from wbctool.types.arrays import Rgb

_CONV = "Conv"
_INT8_OP_TYPES = (_CONV, "Relu", "Clip", "MaxPool", "Resize")  # they run faster in int8, or pass int8 on unchanged
_IDENTITY_THRESHOLD = 0.5  # a center weight above this is nearer to 1 than to 0


@dataclass(frozen=True, slots=True)
class CalibratedModel:
    """A model that is ready for quantization.

    Attributes:
        model: The onnx.ModelProto of :func:`prepare_for_quantization`.
        ranges: The range of each tensor, as onnxruntime measured it.
        layers: Names of the convolutions.
    """

    model: Any
    ranges: Any
    layers: tuple[str, ...]


def calibrate_ranges(content: bytes, batches: Sequence[Rgb]) -> CalibratedModel:
    """Measure the range of each tensor on typical input.

    Args:
        content: An fp32 ONNX file.
        batches: (N, H, W, 3) uint8 RGB each, like the input in use.

    Raises:
        MissingDependency: `onnx` is not installed.
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
    """Quantize a model to int8.

    Args:
        calibrated: The model and its ranges.
        fp32_layers: Names of the convolutions that keep fp32.

    Returns:
        The int8 ONNX file; the same bytes for the same input.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.ModelProto()
    model.CopyFrom(calibrated.model)
    with _silence_onnxruntime():
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            False,  # full range: wbctool.inference.session handles processors whose sums would overflow
            QuantType.QInt8,
            QuantType.QUInt8,
            calibrated.ranges,
            [],
            list(fp32_layers),
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
    """Count the convolutions of an ONNX file."""
    import onnx

    return sum(node.op_type == _CONV for node in onnx.load_from_string(content).graph.node)


def prepare_for_quantization(model: Any) -> Any:
    """Rewrite a model so that int8 loses little, without a change of what it computes.

    The convolutions' weights become fp32 constants, identities are taken out of them, and every node gets a name and
    every value a type.

    Args:
        model: An onnx.ModelProto, which is changed.

    Returns:
        An onnx.ModelProto.
    """
    import onnx

    _fold_weights(model)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}-{number}"
    for node in [node for node in model.graph.node if node.op_type == _CONV]:
        _factor_out_identity(model, node)
    return onnx.shape_inference.infer_shapes(model)


def _fold_weights(model: Any) -> None:
    """Turn convolution weights that are stored in fp16 behind a Cast into fp32 constants; dense layers stay."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored}
    used = {name for node in model.graph.node if node.op_type == _CONV for name in node.input}
    for name in sorted(used & casts.keys()):
        tensor = stored[casts[name].input[0]]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), name))
        model.graph.node.remove(casts[name])


def _factor_out_identity(model: Any, node: Any) -> None:
    """Rewrite conv(x, W) as conv(x, W - I) + x if the whole middle diagonal of W is nearer to 1 than to 0."""
    # A layer that was added as an identity (Net2Net, Chen et al. 2016, arXiv 1511.05641) is 1 plus weights of
    # thousandths, which 255 steps from -1 to 1 would lose. Without the 1 the steps are fine enough.
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
    """Return whether a convolution with weights (out, in, h, w) keeps its input's shape and pixel positions."""
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
    """The calibration data reader that onnxruntime requires."""

    def __init__(self, name: str, batches: Sequence[Rgb]) -> None:
        self._feeds: Iterator[dict[str, Rgb]] = ({name: batch} for batch in batches)

    def get_next(self) -> dict[str, Rgb] | None:
        return next(self._feeds, None)

    def __iter__(self) -> Iterator[dict[str, Rgb]]:
        return self._feeds


@contextmanager
def _silence_onnxruntime() -> Iterator[None]:
    """Silence the root logger, to which onnxruntime sends advice to its developers."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)

"""The dense layers after a classifier's last convolution, read from its ONNX file.

onnxruntime runs a graph but does not show its weights, and the library `onnx` is a dependency of training alone. So the
few messages of onnx.proto (https://github.com/onnx/onnx, IR version 10) that hold the weights are declared here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from wbctool.inference.session import LAST_MAP, LOGITS

_DTYPES = {1: np.float32, 10: np.float16}  # TensorProto.DataType
# message: {field: (number, is repeated, name of a message or of a scalar type of protobuf)}
_MESSAGES: dict[str, dict[str, tuple[int, bool, str]]] = {
    "Tensor": {
        "dims": (1, True, "INT64"),
        "data_type": (2, False, "INT32"),
        "name": (8, False, "STRING"),
        "raw_data": (9, False, "BYTES"),
    },
    "Attribute": {"name": (1, False, "STRING"), "f": (2, False, "FLOAT"), "i": (3, False, "INT64")},
    "Node": {
        "input": (1, True, "STRING"),
        "output": (2, True, "STRING"),
        "op_type": (4, False, "STRING"),
        "attribute": (5, True, "Attribute"),
    },
    "Graph": {"node": (1, True, "Node"), "initializer": (5, True, "Tensor")},
    "Model": {"graph": (7, False, "Graph")},
}
_GEMM_DEFAULTS = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
_GEMM_EXPORTED = {**_GEMM_DEFAULTS, "transB": 1}


@dataclass(frozen=True, slots=True)
class DenseHead:
    """The layers between a classifier's last convolution and its logits.

    Attributes:
        max_pooled: Whether a 2×2 max pooling comes before the global average pooling.
        layers: The weight, (out, in) float32, and the bias, (out,) float32, of each dense layer. A ReLU lies between
            two layers; the last layer gives the logits.
    """

    max_pooled: bool
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]


def read_dense_head(content: bytes) -> DenseHead | None:
    """Read the dense layers of a classifier.

    Args:
        content: The content of the ONNX file.

    Returns:
        The layers; None if the graph is not built as training exports it: the last map, perhaps a MaxPool of 2×2,
        ReduceMean, then dense layers (Gemm) with ReLU between.
    """
    try:
        graph = _build_model_class().FromString(content).graph
    except DecodeError:
        return None
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    def skip_casts(value: str) -> str:
        """Return the value before any Cast, which an fp16 copy of the model has."""
        while value in producers and producers[value].op_type == "Cast":
            value = producers[value].input[0]
        return value

    operations, weights, value, end = [], [], skip_casts(LOGITS), skip_casts(LAST_MAP)
    while value != end:
        node = producers.get(value)
        if node is None or not node.input:
            return None
        operations.append(node.op_type)
        if node.op_type == "Gemm":
            layer = _read_gemm(node, [_read_array(tensors, producers, name) for name in node.input[1:]])
            if layer is None:
                return None
            weights.append(layer)
        value = skip_casts(node.input[0])
    dense = ["Gemm", *["Relu", "Gemm"] * (len(weights) - 1)]
    if not weights or operations not in ([*dense, "ReduceMean"], [*dense, "ReduceMean", "MaxPool"]):
        return None
    return DenseHead("MaxPool" in operations, tuple(reversed(weights)))


def _read_gemm(
    node: Any, parameters: Sequence[NDArray[np.float32] | None]
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return the weight, (out, in), and the bias, (out,), of a Gemm; None if it uses them in another way."""
    attributes = {each.name: each.f if each.name in {"alpha", "beta"} else each.i for each in node.attribute}
    if _GEMM_DEFAULTS | attributes != _GEMM_EXPORTED or len(parameters) != 2:
        return None
    weight, bias = parameters
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return None
    return weight, bias


def _read_array(tensors: Mapping[str, Any], producers: Mapping[str, Any], name: str) -> NDArray[np.float32] | None:
    """Return a weight as float32, also if it is stored in fp16 before a Cast; None if it is not stored as raw bytes."""
    if name not in tensors and name in producers and producers[name].op_type == "Cast":
        name = producers[name].input[0]
    tensor = tensors.get(name)
    if tensor is None or tensor.data_type not in _DTYPES:
        return None
    shape, dtype = tuple(tensor.dims), np.dtype(_DTYPES[tensor.data_type])
    if len(tensor.raw_data) != math.prod(shape) * dtype.itemsize:
        return None
    return np.frombuffer(tensor.raw_data, dtype).reshape(shape).astype(np.float32)


@cache
def _build_model_class() -> Any:
    """Declare the messages to protobuf and return the class of ``Model``."""
    file = descriptor_pb2.FileDescriptorProto(name="wbctool_onnx.proto", package="wbctool_onnx", syntax="proto2")
    field_proto = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, repeated, kind) in fields.items():
            label = field_proto.LABEL_REPEATED if repeated else field_proto.LABEL_OPTIONAL
            if kind in _MESSAGES:
                type_name = f".wbctool_onnx.{kind}"
                message.field.add(
                    name=field, number=number, label=label, type=field_proto.TYPE_MESSAGE, type_name=type_name
                )
            else:
                message.field.add(name=field, number=number, label=label, type=getattr(field_proto, f"TYPE_{kind}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("wbctool_onnx.Model"))

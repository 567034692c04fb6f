"""The dense layers behind a classifier's last convolution, read out of its ONNX file.

onnxruntime runs a graph but shows no weights, and `onnx` is a library of training alone; so the few messages of
onnx.proto (https://github.com/onnx/onnx, IR version 10) that hold them are declared here to protobuf.
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

LAST_MAP, LOGITS = "last_map", "logits"  # as the export names them
_DTYPES = {1: np.float32, 10: np.float16}  # TensorProto.DataType
# message -> field -> (number, whether repeated, type: a message's name, or a scalar of protobuf's)
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
    """max_pooled: whether the map is reduced by 2×2 maxima before its mean is taken.

    layers: (weight (out, in), bias (out,)) float32 each, the last one gives the logits; ReLU between them.
    """

    max_pooled: bool
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]


def read_dense_head(content: bytes) -> DenseHead | None:
    """The head of a classifier's ONNX file; None where what follows its last map is not what training exports.

    That is: the map, perhaps MaxPool of 2×2, ReduceMean, and then dense layers with ReLU between.
    """
    try:
        graph = _build_model_class().FromString(content).graph
    except DecodeError:
        return None
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}

    def skip_casts(value: str) -> str:
        """Without the Casts behind it, which a copy that computes in fp16 has."""
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
    """(weight (out, in), bias (out,)) of a Gemm; None where it takes them otherwise."""
    attributes = {each.name: each.f if each.name in {"alpha", "beta"} else each.i for each in node.attribute}
    if _GEMM_DEFAULTS | attributes != _GEMM_EXPORTED or len(parameters) != 2:
        return None
    weight, bias = parameters
    if weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        return None
    return weight, bias


def _read_array(tensors: Mapping[str, Any], producers: Mapping[str, Any], name: str) -> NDArray[np.float32] | None:
    """A weight, also one that is stored in fp16 behind a Cast; None where it is stored otherwise than as raw bytes."""
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

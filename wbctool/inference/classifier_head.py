"""The dense layer that gives a classifier's logits, read from its ONNX file and replaced in it.

onnxruntime runs a graph but does not show its weights, and the library `onnx` is a dependency of training alone. So the
few messages of onnx.proto (https://github.com/onnx/onnx, IR version 10) that hold the weights are declared here.
Protobuf keeps the parts of a file that are not declared, so a file that is written again is whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from wbctool.errors import ModelMismatch
from wbctool.inference.session import LOGITS

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
_NO_LAST_LAYER = "the classifier's logits do not come from a dense layer, as in the models that training exports"


@dataclass(frozen=True, slots=True)
class LastLayer:
    """The dense layer that turns a classifier's features into its logits.

    Attributes:
        weight: (outputs, D) float32.
        bias: (outputs,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def compute_logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map features (N, D) to logits (N, outputs)."""
        logits: NDArray[np.float32] = features @ self.weight.T + self.bias
        return logits


def read_last_layer(content: bytes) -> LastLayer:
    """Read the layer that gives a classifier's logits.

    Args:
        content: The content of the ONNX file.

    Raises:
        ModelMismatch: The logits do not come from a dense layer, as in the models that training exports.
    """
    graph, node = _find_last_layer(content)
    attributes = {each.name: each.f if each.name in {"alpha", "beta"} else each.i for each in node.attribute}
    weight, bias = (graph.read_array(name) for name in node.input[1:])
    is_as_exported = _GEMM_DEFAULTS | attributes == _GEMM_EXPORTED
    if not is_as_exported or weight is None or bias is None or weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise ModelMismatch(_NO_LAST_LAYER)
    return LastLayer(weight, bias)


def replace_last_layer(content: bytes, layer: LastLayer) -> bytes:
    """Replace the layer that gives a classifier's logits.

    Args:
        content: The content of the ONNX file.
        layer: The new layer, of the same shape.

    Returns:
        The content of the new ONNX file, in which the layer has the precision in which the old one was stored.

    Raises:
        ModelMismatch: As :func:`read_last_layer`.
    """
    graph, node = _find_last_layer(content)
    for name, array in zip(node.input[1:], (layer.weight, layer.bias), strict=True):
        tensor = graph.find_tensor(name)
        if tensor is None or tuple(tensor.dims) != array.shape:
            raise ModelMismatch(_NO_LAST_LAYER)
        tensor.raw_data = array.astype(_DTYPES[tensor.data_type]).tobytes()
    replaced: bytes = graph.model.SerializeToString(deterministic=True)
    return replaced


class _Graph:
    """The graph of an ONNX file: its nodes and weights by the values that they give.

    Args:
        content: The content of the file.

    Raises:
        DecodeError: It is no ONNX file.
    """

    def __init__(self, content: bytes) -> None:
        self.model = _build_model_class().FromString(content)
        self.tensors = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.producers = {output: node for node in self.model.graph.node for output in node.output}

    def skip_casts(self, value: str) -> str:
        """Return the value before any Cast, which an fp16 copy of the model has."""
        while value in self.producers and self.producers[value].op_type == "Cast":
            value = self.producers[value].input[0]
        return value

    def find_tensor(self, name: str) -> Any:
        """Return a weight, also if it is stored before a Cast; None if it is not stored as raw bytes."""
        tensor = self.tensors.get(name if name in self.tensors else self.skip_casts(name))
        if tensor is None or tensor.data_type not in _DTYPES:
            return None
        n_bytes = math.prod(tensor.dims) * np.dtype(_DTYPES[tensor.data_type]).itemsize
        return tensor if len(tensor.raw_data) == n_bytes else None

    def read_array(self, name: str) -> NDArray[np.float32] | None:
        """Return a weight as float32; None if it is not stored as raw bytes."""
        tensor = self.find_tensor(name)
        if tensor is None:
            return None
        values: NDArray[Any] = np.frombuffer(tensor.raw_data, _DTYPES[tensor.data_type])
        return values.reshape(tuple(tensor.dims)).astype(np.float32)


def _find_last_layer(content: bytes) -> tuple[_Graph, Any]:
    """Return the graph of a classifier, and the node that gives its logits."""
    try:
        graph = _Graph(content)
    except DecodeError as error:
        raise ModelMismatch(_NO_LAST_LAYER) from error
    node = graph.producers.get(graph.skip_casts(LOGITS))
    if node is None or node.op_type != "Gemm" or len(node.input) != 3:
        raise ModelMismatch(_NO_LAST_LAYER)
    return graph, node


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

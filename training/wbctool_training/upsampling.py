"""Doubling by nearest neighbor and the convolution after it, merged into one transposed convolution.

Doubling is a transposed convolution with 2×2 ones and a stride of 2, and two linear maps in a row are one. The merged
map needs 4 instead of 9 multiplications a value for a kernel of 3×3, and 25 instead of 81 for one of 9×9. Its kernel is
computed from the stored weights within the graph, which onnxruntime does once, when it loads the model. So the stored
weights stay those that training can read again, and results differ only by the order of the sums.

References:
    Shi et al. 2016, Is the deconvolution layer the same as a convolutional layer?, arXiv 1609.07009.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_PREFIX = "upsampling."  # of the names of the constants that this module adds
_CONSTANTS: dict[str, NDArray[Any]] = {
    "last": np.array([-1, -1], np.int64),
    "before_first": np.array([np.iinfo(np.int64).min] * 2, np.int64),
    "axes": np.array([2, 3], np.int64),
    "backward": np.array([-1, -1], np.int64),
    "four": np.array(4, np.float32),
}
_DOUBLING = [1, 1, 2, 2]  # scales of (N, C, H, W)


def merge_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Merge each doubling by nearest neighbor with the convolution that alone reads it, in place.

    Args:
        model: Any model of opset 18, before or after store_weights_fp16.

    Returns:
        The same model, unchanged if it has no such pair.
    """
    scales = {t.name: numpy_helper.to_array(t).tolist() for t in model.graph.initializer if list(t.dims) == [4]}
    doublings = {node.output[0]: node for node in model.graph.node if _is_doubling(node, scales)}
    readers = [name for node in model.graph.node for name in node.input]
    merged: list[onnx.NodeProto] = []
    for node in model.graph.node:
        doubling = doublings.get(node.input[0]) if node.op_type == "Conv" else None
        if doubling is not None and _is_shape_preserving(node) and readers.count(doubling.output[0]) == 1:
            merged.remove(doubling)
            merged += _make_transposed_convolution(node, doubling.input[0])
        else:
            merged.append(node)
    if len(merged) > len(model.graph.node):
        model.graph.initializer.extend(
            numpy_helper.from_array(value, _PREFIX + name) for name, value in _CONSTANTS.items()
        )
    del model.graph.node[:]
    model.graph.node.extend(merged)
    _delete_unused_initializers(model)
    onnx.checker.check_model(model)
    return model


def _make_transposed_convolution(conv: onnx.NodeProto, doubled: str) -> list[onnx.NodeProto]:
    """Return the nodes that map ``doubled`` to the output of ``conv``, which reads its doubling."""
    weight = conv.input[1]  # (out, in, k, k)
    side = _read_attributes(conv)["kernel_shape"][0]
    swapped, flipped, pooled, kernel = (f"{weight}.{step}" for step in ("swapped", "flipped", "pooled", "doubling"))
    ranges = [_PREFIX + name for name in ("last", "before_first", "axes", "backward")]
    # The mean of 2×2 values with zeros around them, times 4, is the convolution with 2×2 ones.
    return [
        helper.make_node("Transpose", [weight], [swapped], name=swapped, perm=[1, 0, 2, 3]),
        helper.make_node("Slice", [swapped, *ranges], [flipped], name=flipped),
        helper.make_node(
            "AveragePool", [flipped], [pooled], name=pooled, kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1
        ),
        helper.make_node("Mul", [pooled, f"{_PREFIX}four"], [kernel], name=kernel),
        helper.make_node(
            "ConvTranspose",
            [doubled, kernel, *conv.input[2:]],
            list(conv.output),
            name=conv.name,
            kernel_shape=[side + 1] * 2,
            pads=[side // 2] * 4,
            strides=[2, 2],
        ),
    ]


def _is_doubling(node: onnx.NodeProto, scales: dict[str, list[float]]) -> bool:
    """Return whether a node doubles height and width and copies each pixel."""
    if node.op_type != "Resize" or len(node.input) != 3 or scales.get(node.input[2]) != _DOUBLING:
        return False
    attributes = _read_attributes(node)
    rule = [attributes.get(name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode")]
    return rule == [b"nearest", b"asymmetric", b"floor"]


def _is_shape_preserving(conv: onnx.NodeProto) -> bool:
    """Return whether a convolution has a square kernel with an odd side and keeps height and width."""
    attributes = _read_attributes(conv)
    height, width = attributes["kernel_shape"]
    steps = {attributes.get("group", 1), *attributes.get("strides", []), *attributes.get("dilations", [])}
    return bool(steps == {1} and height == width and height % 2 and attributes.get("pads") == [height // 2] * 4)


def _read_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _delete_unused_initializers(model: onnx.ModelProto) -> None:
    """Delete the constants that no node reads any more: the scales of the doublings."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)

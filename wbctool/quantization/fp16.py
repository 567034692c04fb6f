"""Conversion of an fp32 ONNX model to fp16.

On a GPU, fp16 halves the memory traffic and uses the matrix units. On a CPU, onnxruntime computes most of the model in
fp32 between roundings, which is slower, but shows what fp16 changes.
"""

from __future__ import annotations

import warnings

from wbctool.optional import require_extra


def convert_to_fp16(content: bytes) -> bytes:
    """Convert a model to fp16; its inputs and outputs keep their types.

    Args:
        content: An fp32 ONNX file.

    Returns:
        The fp16 ONNX file; the same bytes for the same model.

    Raises:
        MissingDependency: `onnx` is not installed.
    """
    with require_extra("optimize", "wbctool models optimize"):
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights too small for fp16 become 0; the change is measured later
        model = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    return bytes(model.SerializeToString(deterministic=True))

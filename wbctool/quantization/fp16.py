"""An fp32 ONNX model as one that computes in fp16, by onnxruntime's own converter.

Inputs and outputs stay as they are. On a GPU that halves the traffic and lets its matrix units work; on a CPU
onnxruntime computes most of it in fp32 between roundings, which is slower, and shows what fp16 changes.
"""

from __future__ import annotations

import warnings

from wbctool.optional import require_extra


def convert_to_fp16(content: bytes) -> bytes:
    """content: an fp32 ONNX file. Returns the fp16 one; the same bytes for the same model.

    Raises MissingDependency where `onnx` is not installed.
    """
    with require_extra("optimize", "wbctool models optimize"):
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights too small for fp16, which become 0: what that changes is measured
        model = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    return bytes(model.SerializeToString(deterministic=True))

"""From a trained network to ONNX and its card; a model that differs from its network is not written."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from wbctool.errors import ModelMismatch
from wbctool.inference.model_card import ModelCard
from wbctool.inference.model_folder import encode_card
from wbctool_training.models.detector import CellDetector
from wbctool_training.models.srgan import Generator
from wbctool_training.modules.classifier import NormalizedClassifier

log = logging.getLogger(__name__)

_OPSET = 18
FP16_SUFFIX = ".fp16"  # of a weight's name where it is stored in half precision
_MIN_FP16_ELEMENTS = 256  # elements; biases and other small tensors stay fp32


class DetectorGraph(nn.Module):
    """rgb uint8 NHWC -> heat [N, 3, h, w], sides [N, 4, h, w] in pixels."""

    def __init__(self, network: CellDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(rgb.permute(0, 3, 1, 2).float() / 255)  # type: ignore[no-any-return]


class GeneratorGraph(nn.Module):
    """lr uint8 NHWC -> sr uint8 NHWC, four times the side."""

    def __init__(self, network: Generator) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        sr = self.network(lr.permute(0, 3, 1, 2).float() / 255)
        out: Tensor = (sr.clamp(0.0, 1.0) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return out


class ClassifierGraph(nn.Module):
    """rgb uint8 NHWC -> logits, penultimate features, last convolution's map."""

    def __init__(self, network: NormalizedClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network.forward_features(rgb.permute(0, 3, 1, 2))


OUTPUT_NAMES = {
    DetectorGraph: ("heat", "sides"),
    GeneratorGraph: ("sr",),
    ClassifierGraph: ("logits", "features", "last_map"),
}


def to_onnx(graph: nn.Module, example: NDArray[np.uint8], *, dynamic_side: bool) -> onnx.ModelProto:
    """graph as ONNX: dynamic batch (and sides), large weights stored in fp16. example: (N, H, W, 3) uint8, N > 1."""
    names = OUTPUT_NAMES[type(graph)]
    dynamic_dims: dict[int, Any] = {0: torch.export.Dim("batch")}
    if dynamic_side:
        dynamic_dims |= {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            graph.eval(),
            (torch.from_numpy(example),),
            path,
            input_names=["rgb"],
            output_names=list(names),
            dynamic_shapes=({**dynamic_dims},),
            opset_version=_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        model = onnx.load(path)
    return store_weights_fp16(model)


def store_weights_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Large fp32 initialisers as fp16, each behind a Cast to fp32: half the bytes on disk, arithmetic in fp32."""
    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _MIN_FP16_ELEMENTS:
            continue
        name = weight.name
        stored = name + FP16_SUFFIX
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # The exporter notes every value's shape, weights too, and where in our sources a node came from: neither stays.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def round_weights_fp16(network: nn.Module) -> None:
    """Round the network's own large weights to fp16, so that the parity check compares like with like."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() >= _MIN_FP16_ELEMENTS:
                parameter.copy_(parameter.half().float())


def check_parity(graph: nn.Module, model: bytes, batches: Sequence[NDArray[np.uint8]], tolerance: float) -> float:
    """The largest difference between PyTorch and ONNX Runtime on real crops, relative to each output's largest value.

    Raises ModelMismatch above ``tolerance``.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    max_difference = 0.0
    for batch in batches:
        with torch.inference_mode():
            torch_outputs = graph(torch.from_numpy(batch))
        torch_outputs = torch_outputs if isinstance(torch_outputs, tuple) else (torch_outputs,)
        for name, expected, actual in zip(
            OUTPUT_NAMES[type(graph)], torch_outputs, session.run(None, {"rgb": batch}), strict=True
        ):
            reference = expected.float().numpy()
            difference = float(np.abs(reference - actual.astype(np.float32)).max() / max(1.0, np.abs(reference).max()))
            if not difference <= tolerance:  # a network that diverged differs by nan
                raise ModelMismatch(
                    f"the exported graph differs from the network: {name} by {difference:.2g} of its range"
                )
            max_difference = max(max_difference, difference)
    return max_difference


def write_model(model: onnx.ModelProto | bytes, card: ModelCard, folder: Path) -> Path:
    """Write ONNX file and card, each whole or not at all, the card last."""
    folder.mkdir(parents=True, exist_ok=True)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    _write_atomic(folder / card.file, content)
    path = folder / f"{Path(card.file).stem}.json"
    _write_atomic(path, encode_card(card))
    log.info("wrote %s (%.1f MB) and its card", folder / card.file, len(content) / 1e6)
    return path


def _write_atomic(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

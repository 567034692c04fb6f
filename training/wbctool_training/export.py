"""Export of trained networks to ONNX files with cards, after a comparison of ONNX Runtime with PyTorch."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Mapping, Sequence
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
from wbctool.inference.session import CAM, FEATURES, HEAT, LOGITS, SIDES, SUBTYPES, SUPER_RESOLVED
from wbctool.store.atomic_write import write_atomic_group
from wbctool_training.models.classifier import NormalizedClassifier
from wbctool_training.models.detector import CellDetector
from wbctool_training.models.gradcam import grad_cam
from wbctool_training.models.srgan import Generator
from wbctool_training.upsampling import merge_upsampling

log = logging.getLogger(__name__)

_OPSET = 18
FP16_SUFFIX = ".fp16"  # of the name of a weight that is stored in half precision
N_PARITY_CELLS = 8  # cells on which PyTorch and ONNX Runtime are compared
_MIN_FP16_ELEMENTS = 256  # biases and other smaller tensors stay fp32
_CLASSIFIER_TOLERANCE = 1e-3  # of a classifier's outputs
_CAM_TOLERANCE = 0.1  # of the maps' root mean square


class DetectorGraph(nn.Module):
    """The detector's exported graph.

    Args:
        network: The trained detector.
    """

    def __init__(self, network: CellDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, H, W, 3) uint8 RGB to the outputs of CellDetector."""
        return self.network(rgb.permute(0, 3, 1, 2).float() / 255)  # type: ignore[no-any-return]


class GeneratorGraph(nn.Module):
    """The generator's exported graph.

    Args:
        network: The trained generator.
    """

    def __init__(self, network: Generator) -> None:
        super().__init__()
        self.network = network

    def forward(self, lr: Tensor) -> Tensor:
        """Map (N, h, w, 3) uint8 RGB to (N, 4h, 4w, 3) uint8 RGB."""
        sr = self.network(lr.permute(0, 3, 1, 2).float() / 255)
        out: Tensor = (sr.clamp(0.0, 1.0) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return out


class ClassifierGraph(nn.Module):
    """The classifier's exported graph.

    Args:
        network: The trained classifier.
        n_classes: Number of classes, which come before the unknown kinds among the network's outputs.
    """

    def __init__(self, network: NormalizedClassifier, n_classes: int) -> None:
        super().__init__()
        self.network, self.n_classes = network, n_classes

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 RGB to logits, penultimate features and the classes' Grad-CAM maps.

        The maps are (N, n_classes, h, w) uint8, as :func:`grad_cam` scales them.
        """
        logits, features, last_map = self.network.forward_features(rgb.permute(0, 3, 1, 2))
        return logits, features, grad_cam(self.network.network, last_map)[:, : self.n_classes]


class SubtypeClassifierGraph(ClassifierGraph):
    """The exported graph of a classifier that also tells finer kinds of cells.

    Args:
        network: The trained classifier.
        n_classes: Number of classes, as of ClassifierGraph.
        layer: Gives the subtypes' logits of the penultimate features.
    """

    def __init__(self, network: NormalizedClassifier, n_classes: int, layer: nn.Linear) -> None:
        super().__init__(network, n_classes)
        self.subtypes = layer

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """Map (N, H, W, 3) uint8 RGB to the outputs of ClassifierGraph and the subtypes' logits."""
        outputs = super().forward(rgb)
        return (*outputs, self.subtypes(outputs[1]))


OUTPUT_NAMES = {
    DetectorGraph: (HEAT, SIDES),
    GeneratorGraph: (SUPER_RESOLVED,),
    ClassifierGraph: (LOGITS, FEATURES, CAM),
}
OUTPUT_NAMES[SubtypeClassifierGraph] = (*OUTPUT_NAMES[ClassifierGraph], SUBTYPES)


def to_onnx(graph: nn.Module, example: NDArray[np.uint8], *, dynamic_side: bool) -> onnx.ModelProto:
    """Export a graph to ONNX with a dynamic batch size and its large weights stored in fp16.

    Args:
        graph: One of the keys of OUTPUT_NAMES.
        example: (N, H, W, 3) uint8 RGB; a single image is repeated, since for one torch makes N a constant.
        dynamic_side: Whether height and width are dynamic too.
    """
    names = OUTPUT_NAMES[type(graph)]
    dynamic_dims: dict[int, Any] = {0: torch.export.Dim("batch")}
    if dynamic_side:
        dynamic_dims |= {1: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            graph.eval(),
            (torch.from_numpy(example if len(example) > 1 else np.repeat(example, 2, axis=0)),),
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
    return store_weights_fp16(merge_upsampling(model))


def store_weights_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large fp32 initializers as fp16, each followed by a Cast to fp32, in place.

    This halves the file, and arithmetic stays in fp32.

    Returns:
        The same model.
    """
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
    # The exporter records shapes, which fp16 makes wrong, and source paths, which would reveal this machine's folders.
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def round_weights_fp16(network: nn.Module) -> None:
    """Round a network's large weights to fp16 in place, as the export stores them, before the parity check."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() >= _MIN_FP16_ELEMENTS:
                parameter.copy_(parameter.half().float())


def export_classifier(graph: ClassifierGraph, example: NDArray[np.uint8]) -> tuple[bytes, float]:
    """Export a classifier and compare the file with the graph.

    Args:
        graph: The graph, whose large weights are rounded already (:func:`round_weights_fp16`).
        example: (N, H, W, 3) uint8 RGB, real cells.

    Returns:
        The ONNX file, and the largest difference of its outputs as in :func:`check_parity`.

    Raises:
        ModelMismatch: The file differs from the graph.
    """
    content: bytes = to_onnx(graph, example, dynamic_side=False).SerializeToString()
    return content, check_parity(graph, content, [example[:1], example], _CLASSIFIER_TOLERANCE)


def check_parity(graph: nn.Module, model: bytes, batches: Sequence[NDArray[np.uint8]], tolerance: float) -> float:
    """Compare PyTorch with ONNX Runtime.

    Of Grad-CAM maps the root mean square is compared: some values differ by one for the rounding, and all of a cell's
    may differ by more if a hidden unit is so near to zero that it is on in one and off in the other.

    Args:
        graph: The network that was exported.
        model: The serialized ONNX model.
        batches: (N, H, W, 3) uint8 RGB each, real images.
        tolerance: Largest accepted difference.

    Returns:
        The largest absolute difference of the outputs but the maps, relative to each output's largest absolute value
        (at least 1).

    Raises:
        ModelMismatch: The difference exceeds ``tolerance``, or that of the maps a tenth of their root mean square.
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
            errors = reference - actual.astype(np.float32)
            if name == CAM:
                difference, limit = _root_mean_square(errors) / max(1.0, _root_mean_square(reference)), _CAM_TOLERANCE
            else:
                difference, limit = float(np.abs(errors).max() / max(1.0, np.abs(reference).max())), tolerance
                max_difference = max(max_difference, difference)
            if not difference <= limit:  # False for nan too, the difference of a network that diverged
                raise ModelMismatch(
                    f"the exported graph differs from the network: {name} by {difference:.2g} of its range"
                )
    return max_difference


def _root_mean_square(values: NDArray[np.float32]) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.mean(values**2)))


def write_model(
    model: onnx.ModelProto | bytes, card: ModelCard, folder: Path, more: Mapping[Path, bytes] | None = None
) -> Path:
    """Write an ONNX file and its card atomically, the card last.

    Args:
        model: The model, or its serialized bytes.
        card: Its card; ``sha256`` is set to the hash of the bytes written.
        folder: Where both go.
        more: The content of other files that belong to the model, by path.

    Returns:
        The card's path.

    Raises:
        OutputNotWritable: The files cannot be written.
    """
    content = model if isinstance(model, bytes) else model.SerializeToString()
    card = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    path = folder / f"{Path(card.file).stem}.json"
    write_atomic_group({folder / card.file: content, **(more or {}), path: encode_card(card)})
    log.info("wrote %s (%.1f MB) and its card", folder / card.file, len(content) / 1e6)
    return path

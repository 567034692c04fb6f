"""The exported ONNX model agrees with PyTorch, or is refused."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from tiny_training import SMALL_FEATURES
from wbctool_training.export import (
    DetectorGraph,
    GeneratorGraph,
    SubtypeClassifierGraph,
    check_parity,
    round_weights_fp16,
    to_onnx,
    write_model,
)
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.models.detector import CellDetector
from wbctool_training.models.srgan import Generator

from wbctool.errors import ModelMismatch
from wbctool.imaging.reader import read_field
from wbctool.inference.classifier_head import LastLayer, read_last_layer, replace_last_layer
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import CompactCard, GeneratorCard, read_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import create_session
from wbctool.labels import SUBTYPES_BY_CLASS, CellClass, Subtype
from wbctool.quantization.fp16 import convert_to_fp16
from wbctool.quantization.int8 import calibrate_ranges, quantize
from wbctool.stages.classify import classify_cells

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.stack([read_field(path).rgb[200:232, 300:332] for path in DEMO[:3]])


@pytest.fixture(scope="module")
def graph() -> GeneratorGraph:
    torch.manual_seed(0)
    network = Generator(blocks=1, width=16)
    network.init_as_interpolation()
    round_weights_fp16(network)
    return GeneratorGraph(network.eval())


@pytest.fixture(scope="module")
def model(graph: GeneratorGraph, crops: np.ndarray) -> onnx.ModelProto:
    return to_onnx(graph, crops, dynamic_side=True)


def test_to_onnx_generator_has_dynamic_batch_and_sides(
    graph: GeneratorGraph, model: onnx.ModelProto, crops: np.ndarray
) -> None:
    content = model.SerializeToString()
    worst = check_parity(
        graph, content, [crops[:1], crops, np.ascontiguousarray(crops[:, :20, :20])], tolerance=2 / 255
    )
    assert 0 <= worst <= 2 / 255


def test_to_onnx_of_a_single_example_has_dynamic_batch(graph: GeneratorGraph, crops: np.ndarray) -> None:
    model = to_onnx(graph, crops[:1], dynamic_side=True)
    assert check_parity(graph, model.SerializeToString(), [crops[:1], crops], tolerance=4 / 255) < 4 / 255


def test_to_onnx_stores_large_weights_as_fp16(model: onnx.ModelProto) -> None:
    large = [w for w in model.graph.initializer if np.prod(w.dims) >= 256 and w.data_type != TensorProto.INT64]
    assert len(large) >= 7
    assert {w.data_type for w in large} == {TensorProto.FLOAT16}


def test_to_onnx_contains_no_local_path(model: onnx.ModelProto) -> None:
    assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()


def test_check_parity_altered_weights_are_refused(
    graph: GeneratorGraph, model: onnx.ModelProto, crops: np.ndarray
) -> None:
    altered = onnx.ModelProto()
    altered.CopyFrom(model)
    weight = next(w for w in altered.graph.initializer if w.data_type == TensorProto.FLOAT16)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float16(1.5), weight.name))
    with pytest.raises(ModelMismatch, match="differs from the network"):
        check_parity(graph, altered.SerializeToString(), [crops], tolerance=4 / 255)


@pytest.fixture(scope="module")
def field() -> np.ndarray:
    return read_field(DEMO[0]).rgb


@pytest.fixture(scope="module")
def detector_graph() -> DetectorGraph:
    torch.manual_seed(0)
    return DetectorGraph(CellDetector(width=8).eval())


@pytest.fixture(scope="module")
def detector(detector_graph: DetectorGraph, field: np.ndarray) -> onnx.ModelProto:
    return to_onnx(detector_graph, np.stack([field[:128, :160], field[64:192, 64:224]]), dynamic_side=True)


def test_to_onnx_detector_agrees_at_another_size(
    detector_graph: DetectorGraph, detector: onnx.ModelProto, field: np.ndarray
) -> None:
    windows = [field[None, :128, :160], field[None, :320, :320]]
    check_parity(
        detector_graph, detector.SerializeToString(), [np.ascontiguousarray(w) for w in windows], tolerance=0.02
    )


def test_check_parity_diverged_network_is_refused(
    detector_graph: DetectorGraph, detector: onnx.ModelProto, field: np.ndarray
) -> None:
    """Both give nan, and no comparison with nan exceeds the tolerance."""
    graph, model = copy.deepcopy(detector_graph), copy.deepcopy(detector)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.fill_(float("nan"))
    for weight in model.graph.initializer:
        if weight.name.startswith("network."):  # not the scales of a resizing, of which the shapes follow
            values = numpy_helper.to_array(weight)
            weight.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    with pytest.raises(ModelMismatch, match="by nan of its range"):
        check_parity(graph, model.SerializeToString(), [np.ascontiguousarray(field[None, :64, :64])], tolerance=0.02)


def test_write_model_card_has_hash_of_written_bytes(model: onnx.ModelProto, tmp_path: Path) -> None:
    card = GeneratorCard(
        name="generator", version="1", file="generator.onnx", sha256="0" * 64, parameters=1, tool_version="1",
        recipe="test", training={}, scale=4, min_px=32, max_px=64,
    )  # fmt: skip
    path = write_model(model, card, tmp_path)
    written = read_card(path)
    assert written.sha256 != card.sha256
    assert read_model_bytes(written, tmp_path) == model.SerializeToString()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["generator.json", "generator.onnx"]


CLASSES = (CellClass.NEUTROPHIL, CellClass.IMMATURE_GRANULOCYTE)
SUBTYPES = tuple(Subtype(name) for name in ("band", "segmented", "metamyelocyte", "myelocyte", "promyelocyte"))


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    return np.stack([read_field(path).rgb[180:308, 250:378] for path in DEMO[:3]])


@pytest.fixture(scope="module")
def subtype_graph() -> SubtypeClassifierGraph:
    torch.manual_seed(0)
    network = CellClassifier(len(CLASSES), backbone=Backbone.EFFICIENTNET_LITE0)
    network.features = SMALL_FEATURES[Backbone.EFFICIENTNET_LITE0]()
    normalized = NormalizedClassifier(network, white_balance=False)
    graph = SubtypeClassifierGraph(normalized, len(CLASSES), torch.nn.Linear(1280, 5))
    round_weights_fp16(graph)
    return graph.eval()


@pytest.fixture(scope="module")
def compact(subtype_graph: SubtypeClassifierGraph, cells: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a second reader that tells subtypes."""
    model, folder = to_onnx(subtype_graph, cells, dynamic_side=False), tmp_path_factory.mktemp("compact")
    check_parity(subtype_graph, model.SerializeToString(), [cells[:1], cells], tolerance=1e-3)
    card = CompactCard(
        name="compact", version="1", file="compact.onnx", sha256="0" * 64, parameters=1, tool_version="1",
        recipe="test", training={}, classes=CLASSES, input_px=128, crop_margin=1.25, temperature=1.0,
        confidence_threshold=0.0, subtypes=SUBTYPES, subtype_threshold=0.0,
    )  # fmt: skip
    write_model(model, card, folder)
    return folder


def test_exported_subtypes_name_the_cells(
    compact: Path, subtype_graph: SubtypeClassifierGraph, cells: np.ndarray
) -> None:
    with torch.inference_mode():
        logits, *_, subtypes = (output.numpy() for output in subtype_graph(torch.from_numpy(cells)))
    for prediction, row, of_subtypes in zip(
        classify_cells(cells, load_model(compact, CompactCard)), logits, subtypes, strict=True
    ):
        label = CLASSES[int(row.argmax())]
        best = max(SUBTYPES_BY_CLASS[label], key=lambda subtype: of_subtypes[SUBTYPES.index(subtype)])
        assert (prediction.label, prediction.subtype) == (label, best)


def test_copies_and_adapted_models_keep_the_subtypes(compact: Path, cells: np.ndarray) -> None:
    model = load_model(compact, CompactCard)
    content = read_model_bytes(model.card, compact)
    layer = read_last_layer(content)
    copies = {
        "adapted": replace_last_layer(content, LastLayer(-layer.weight, -layer.bias)),
        "fp16": convert_to_fp16(content),
        "int8": quantize(calibrate_ranges(content, [cells]), ()),
    }
    (expected,) = model.run(cells, "subtypes")
    by_copy = {name: create_session(model.card, copied).run(cells, "subtypes")[0] for name, copied in copies.items()}
    np.testing.assert_array_equal(by_copy["adapted"], expected)
    np.testing.assert_allclose(by_copy["fp16"], expected, rtol=0, atol=0.05 * np.abs(expected).max())
    assert by_copy["int8"].shape == expected.shape  # int8 says little of a network that is not trained

"""Grad-CAM in the classifier's graph: against autograd, in ONNX, after an adaptation, in int8 and in fp16."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tiny_training import SMALL_FEATURES
from torch import Tensor, nn
from wbctool_training import export
from wbctool_training.export import ClassifierGraph, check_parity, round_weights_fp16, to_onnx
from wbctool_training.models.backbones import BACKBONE_SPECS, Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.models.gradcam import grad_cam

from wbctool.errors import ModelMismatch
from wbctool.inference.classifier_head import LastLayer, read_last_layer, replace_last_layer
from wbctool.quantization.fp16 import convert_to_fp16
from wbctool.quantization.int8 import calibrate_ranges, quantize

SIDE_PX = 64
N_CLASSES, N_OUTPUTS = 4, 6  # so few that the export could store a second copy of the last layer
CROPS = np.random.default_rng(3).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3), np.uint8)


def small_network(backbone: Backbone) -> CellClassifier:
    torch.manual_seed(2)
    network = CellClassifier(N_OUTPUTS, 0.5, backbone)
    network.features = SMALL_FEATURES[backbone]()
    return network.eval()


def reference(network: CellClassifier, last_map: Tensor) -> np.ndarray:
    """Compute the maps by their definition, with autograd."""
    last_map = last_map.detach().requires_grad_()
    logits = network.output(network.dense(network.features[-1](last_map).mean(dim=(2, 3))))
    maps = []
    for output in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, output].sum(), last_map, retain_graph=True)
        weighted = gradient.mean(dim=(2, 3), keepdim=True) * last_map
        maps.append(weighted.sum(dim=1).clamp_min(0).detach().numpy())
    stacked = np.stack(maps, axis=1)
    peaks = stacked.max(axis=(2, 3), keepdims=True)
    return np.rint(np.divide(stacked * 255, peaks, out=np.zeros_like(stacked), where=peaks > 0)).astype(np.uint8)


def levels(one: np.ndarray, other: np.ndarray) -> int:
    """Return by how many gray levels two arrays of maps differ at most."""
    assert one.dtype == other.dtype == np.uint8
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("backbone", list(SMALL_FEATURES))
def test_grad_cam_matches_autograd(backbone: Backbone) -> None:
    network = small_network(backbone)
    last_map = torch.randn(3, BACKBONE_SPECS[backbone].channels, 7, 7).relu()
    with torch.inference_mode():
        cam = grad_cam(network, last_map).numpy()
    assert levels(cam, reference(network, last_map)) <= 1
    maps = cam.reshape(3 * N_OUTPUTS, 7 * 7)
    assert np.mean(maps.max(axis=1) == 255) > 0.5
    assert len({each.tobytes() for each in maps}) > len(maps) / 2


def two_channels(weight: list[list[float]]) -> CellClassifier:
    """Return a classifier whose logits are the mean of two channels times a matrix."""
    network = CellClassifier(2, backbone=Backbone.EFFICIENTNET_LITE0)
    network.output = nn.Linear(2, 2)
    network.output.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float32))
    return network


def test_grad_cam_is_brightest_where_the_decisive_channel_is() -> None:
    last_map = torch.tensor([[[[0.0, 4], [1, 0]], [[0, 0], [0, 9]]]])
    with torch.inference_mode():
        cam = grad_cam(two_channels([[1, -1], [-1, 1]]), last_map)
    assert cam.tolist() == [[[[0, 255], [64, 0]], [[0, 0], [0, 255]]]]


def test_grad_cam_without_evidence_is_dark() -> None:
    with torch.inference_mode():
        cam = grad_cam(two_channels([[-1, -1], [1, 0]]), torch.ones(1, 2, 2, 2))
    assert cam.tolist() == [[[[0, 0], [0, 0]], [[255, 255], [255, 255]]]]


def small_graph(backbone: Backbone) -> ClassifierGraph:
    network = NormalizedClassifier(small_network(backbone), white_balance=False).eval()
    round_weights_fp16(network)
    return ClassifierGraph(network, N_CLASSES)


@pytest.fixture(scope="module", params=list(SMALL_FEATURES))
def exported(request: pytest.FixtureRequest) -> tuple[ClassifierGraph, bytes]:
    graph = small_graph(request.param)
    return graph, to_onnx(graph, CROPS, dynamic_side=False).SerializeToString()


def run(content: bytes, rgb: np.ndarray = CROPS) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and maps by onnxruntime."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # as wbctool does if a processor has no VNNI
    session = ort.InferenceSession(content, options, ["CPUExecutionProvider"])
    logits, cam = session.run(["logits", "cam"], {"rgb": rgb})
    return logits, cam


def expected_cam(graph: ClassifierGraph, rgb: np.ndarray = CROPS) -> np.ndarray:
    network = graph.network
    last_map = network.forward_features(torch.from_numpy(rgb).permute(0, 3, 1, 2))[2]
    return reference(network.network, last_map)[:, :N_CLASSES]


def test_exported_graph_gives_the_classes_maps(exported: tuple[ClassifierGraph, bytes]) -> None:
    graph, content = exported
    assert [o.name for o in onnx.load_from_string(content).graph.output] == ["logits", "features", "cam"]
    for rgb in (CROPS, CROPS[:1]):
        (logits, cam), expected = run(content, rgb), expected_cam(graph, rgb)
        assert (logits.shape, cam.shape) == ((len(rgb), N_OUTPUTS), expected.shape)
        assert levels(cam, expected) <= 1
    assert check_parity(graph, content, [CROPS[:1], CROPS], tolerance=1e-4) <= 1e-4


def test_exported_map_does_not_depend_on_the_other_cells(exported: tuple[ClassifierGraph, bytes]) -> None:
    _, content = exported
    beside = CROPS.copy()
    beside[1:] = 255 - beside[1:]
    (_, cam), (_, other) = run(content), run(content, beside)
    assert np.array_equal(cam[0], other[0])
    assert not np.array_equal(cam[1], other[1])


def test_replaced_last_layer_also_gives_the_maps(exported: tuple[ClassifierGraph, bytes]) -> None:
    graph, content = exported
    layer = read_last_layer(content)
    new = LastLayer(-layer.weight[::-1].copy(), layer.bias)
    adapted = small_graph(graph.network.network.backbone)
    with torch.no_grad():
        adapted.network.network.output.weight.copy_(torch.from_numpy(new.weight))
    cam = run(replace_last_layer(content, new))[1]
    assert levels(cam, expected_cam(adapted)) <= 1
    assert levels(cam, run(content)[1]) > 100


def test_int8_and_fp16_copies_give_nearly_the_same_maps(exported: tuple[ClassifierGraph, bytes]) -> None:
    _, content = exported
    cam = run(content)[1]
    for copy in (quantize(calibrate_ranges(content, [CROPS]), ()), convert_to_fp16(content)):
        assert [o.name for o in onnx.load_from_string(copy).graph.output] == ["logits", "features", "cam"]
        of_copy = run(copy)[1]
        assert of_copy.dtype == np.uint8
        assert np.corrcoef(cam.ravel(), of_copy.ravel())[0, 1] > 0.98


def test_check_parity_of_maps_takes_rounding_but_no_other_maps(
    exported: tuple[ClassifierGraph, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, content = exported
    monkeypatch.setattr(export, "grad_cam", lambda *inputs: grad_cam(*inputs).clamp_min(1) - 1)
    assert check_parity(graph, content, [CROPS], tolerance=1e-4) <= 1e-4
    monkeypatch.setattr(export, "grad_cam", lambda *inputs: grad_cam(*inputs).roll(1, dims=1))
    with pytest.raises(ModelMismatch, match="differs from the network: cam by"):
        check_parity(graph, content, [CROPS], tolerance=1e-4)

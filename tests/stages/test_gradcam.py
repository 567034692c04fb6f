import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from wbctool.inference.classifier_head import DenseHead, read_dense_head
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card, read_model_bytes
from wbctool.stages.gradcam import global_pool, grad_cam, head_forward, head_gradient


@pytest.fixture(scope="module")
def shipped():
    folder = default_models_dir()
    return read_dense_head(read_model_bytes(load_fp32_card(folder, ClassifierCard), folder))


@pytest.fixture
def small():
    """Two channels, three hidden, two classes, drawn at random."""
    rng = np.random.default_rng(5)
    sizes = [(3, 2), (3, 3), (2, 3)]
    layers = tuple((rng.normal(size=s).astype(np.float32), rng.normal(size=s[0]).astype(np.float32)) for s in sizes)
    return DenseHead(False, layers)


def test_head_forward_of_shipped_head_gives_the_graphs_logits(shipped):
    """From the graph's last map the head gives the graph's logits."""
    rgb = np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3), np.uint8)
    logits, _, last_maps = load_model(default_models_dir(), ClassifierCard).run(rgb)
    for last_map, expected in zip(last_maps, logits, strict=True):
        assert head_forward(global_pool(last_map, shipped), shipped) == pytest.approx(expected, abs=1e-3)


def test_head_gradient_matches_finite_differences(small):
    rng = np.random.default_rng(7)
    for pooled in rng.normal(size=(20, 2)):
        for label in (0, 1):
            steps = 1e-3 * np.eye(2)
            slopes = [
                (head_forward(pooled + step, small)[label] - head_forward(pooled - step, small)[label]) / 2e-3
                for step in steps
            ]
            assert head_gradient(pooled, label, small) == pytest.approx(slopes, abs=1e-2)


def test_grad_cam_is_brightest_where_the_decisive_channel_is():
    head = DenseHead(False, ((np.array([[1, -1], [-1, 1]], np.float32), np.zeros(2, np.float32)),))
    last_map = np.zeros((2, 2, 2), np.float32)
    last_map[0, 0, 1], last_map[0, 1, 0], last_map[1, 1, 1] = 4, 1, 9
    assert list(grad_cam(last_map, 0, head)) == [0, 255, 64, 0]
    assert list(grad_cam(last_map, 1, head)) == [0, 0, 0, 255]


def test_grad_cam_without_evidence_is_dark():
    head = DenseHead(True, ((np.array([[-1.0]], np.float32), np.zeros(1, np.float32)),))
    assert grad_cam(np.ones((1, 2, 2), np.float32), 0, head) == bytes(4)


def exported(weight, bias, **gemm):
    """A graph that ends as training exports it: the last map, its mean, one dense layer. weight, bias: initializers."""
    nodes = [
        helper.make_node("Identity", ["rgb"], ["last_map"]),
        helper.make_node("ReduceMean", ["last_map", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"], **gemm),
    ]
    held = [weight, bias, numpy_helper.from_array(np.array([2, 3], np.int64), "axes")]
    return helper.make_model(helper.make_graph(nodes, "head", [], [], held)).SerializeToString()


WEIGHT = numpy_helper.from_array(np.array([[1, 2], [3, 4], [5, 6]], np.float32), "weight")
BIAS = numpy_helper.from_array(np.array([7, 8, 9], np.float32), "bias")


def test_read_dense_head_returns_known_weights():
    ((weight, bias),) = read_dense_head(exported(WEIGHT, BIAS, transB=1, alpha=1.0, beta=1.0)).layers
    assert weight.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert bias.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    "gemm", [{}, {"transB": 0}, {"transB": 1, "alpha": 2.0}, {"transB": 1, "beta": 0.0}, {"transB": 1, "transA": 1}]
)
def test_read_dense_head_of_unusual_gemm_returns_none(gemm):
    """The explanation would be that of another network."""
    assert read_dense_head(exported(WEIGHT, BIAS, **gemm)) is None


def test_read_dense_head_of_weights_not_stored_raw_returns_none():
    as_floats = helper.make_tensor("weight", TensorProto.FLOAT, [3, 2], [1.0, 2, 3, 4, 5, 6])
    assert not as_floats.raw_data
    assert read_dense_head(exported(as_floats, BIAS, transB=1)) is None
    short = numpy_helper.from_array(np.array([7, 8], np.float32), "bias")
    assert read_dense_head(exported(WEIGHT, short, transB=1)) is None
    torn = TensorProto()
    torn.CopyFrom(WEIGHT)
    torn.raw_data = torn.raw_data[:-1]
    assert read_dense_head(exported(torn, BIAS, transB=1)) is None


@pytest.mark.parametrize("content", [b"", b"not a model", b"\xff" * 9])
def test_read_dense_head_of_other_content_returns_none(content):
    assert read_dense_head(content) is None

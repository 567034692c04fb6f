from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import write_tiny_models

from wbctool.errors import ModelMismatch
from wbctool.inference.classifier_head import LastLayer, read_last_layer, replace_last_layer
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.session import CPU, FEATURES, LOGITS, create_session


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    return (write_tiny_models(tmp_path) / "classifier.onnx").read_bytes()


def test_replace_last_layer_changes_the_logits_and_nothing_else(content: bytes, tmp_path: Path) -> None:
    card = load_fp32_card(write_tiny_models(tmp_path), ClassifierCard)
    layer = read_last_layer(content)
    new = LastLayer(layer.weight[::-1].copy(), layer.bias + 1)
    replaced = replace_last_layer(content, new)
    rgb = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), np.uint8)
    before, after = (create_session(card, model, CPU).run(rgb, LOGITS, FEATURES) for model in (content, replaced))
    assert np.array_equal(before[1], after[1])
    assert np.allclose(after[0], new.compute_logits(before[1]), atol=1e-4)


@pytest.mark.parametrize("name", ["classifier", "compact"])
def test_replace_last_layer_of_the_shipped_models_reads_back_in_half_precision(name: str) -> None:
    content = (default_models_dir() / f"{name}.onnx").read_bytes()
    layer = read_last_layer(content)
    new = LastLayer(layer.weight * 1.5, layer.bias - 0.25)
    read_back = read_last_layer(replace_last_layer(content, new))
    assert np.allclose(read_back.weight, new.weight, atol=1e-3)
    assert np.array_equal(read_back.bias, new.bias)


def test_replace_last_layer_of_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(ModelMismatch):
        replace_last_layer(content, LastLayer(np.zeros((8, 4), np.float32), np.zeros(8, np.float32)))


@pytest.mark.parametrize("other", [b"", b"no model", b"\x08\x09"])
def test_read_last_layer_of_no_classifier_is_refused(other: bytes) -> None:
    with pytest.raises(ModelMismatch):
        read_last_layer(other)


WEIGHT = numpy_helper.from_array(np.array([[1, 2], [3, 4], [5, 6]], np.float32), "weight")
BIAS = numpy_helper.from_array(np.array([7, 8, 9], np.float32), "bias")


def build_head(weight: onnx.TensorProto, bias: onnx.TensorProto, **gemm: object) -> bytes:
    """Build a graph of one dense layer of two features and three logits."""
    node = helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], **gemm)
    return helper.make_model(helper.make_graph([node], "head", [], [], [weight, bias])).SerializeToString()


def test_read_last_layer_returns_known_weights() -> None:
    layer = read_last_layer(build_head(WEIGHT, BIAS, transB=1, alpha=1.0, beta=1.0))
    assert layer.weight.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert layer.bias.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    "gemm", [{}, {"transB": 0}, {"transB": 1, "alpha": 2.0}, {"transB": 1, "beta": 0.0}, {"transB": 1, "transA": 1}]
)
def test_read_last_layer_of_unusual_gemm_is_refused(gemm: dict[str, object]) -> None:
    with pytest.raises(ModelMismatch):
        read_last_layer(build_head(WEIGHT, BIAS, **gemm))


def test_read_last_layer_of_weights_not_stored_raw_is_refused() -> None:
    as_floats = helper.make_tensor("weight", TensorProto.FLOAT, [3, 2], [1.0, 2, 3, 4, 5, 6])
    assert not as_floats.raw_data
    short = numpy_helper.from_array(np.array([7, 8], np.float32), "bias")
    torn = TensorProto()
    torn.CopyFrom(WEIGHT)
    torn.raw_data = torn.raw_data[:-1]
    for weight, bias in ((as_floats, BIAS), (WEIGHT, short), (torn, BIAS)):
        with pytest.raises(ModelMismatch):
            read_last_layer(build_head(weight, bias, transB=1))

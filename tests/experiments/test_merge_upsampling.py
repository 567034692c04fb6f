"""`python -m experiments.merge_upsampling`: an earlier generator, rewritten and compared."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tiny_models import write_tiny_models
from wbctool_training.export import write_model

from experiments.merge_upsampling import main
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import GeneratorCard, load_fp32_card
from wbctool.inference.session import SUPER_RESOLVED

SLIDES = Path(__file__).parents[1] / "data" / "slides"


def _add_convolution(models: Path) -> None:
    """Give the tiny generator, which enlarges four times, a convolution that blurs after a doubling."""
    card = load_fp32_card(models, GeneratorCard)
    model = onnx.load(models / card.file)
    to_nchw, (enlarge, to_nhwc) = list(model.graph.node)[:2], list(model.graph.node)[2:4]
    assert enlarge.op_type == "Resize"
    nodes = [
        onnx.helper.make_node("Resize", ["nchw", "", "double"], ["half"], mode="nearest"),
        onnx.helper.make_node(
            "Resize",
            ["half", "", "double"],
            ["doubled"],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        onnx.helper.make_node("Conv", ["doubled", "blur"], ["large"], kernel_shape=[3, 3], pads=[1] * 4),
    ]
    rest = list(model.graph.node)[4:]
    constants = {
        "double": np.array([1, 1, 2, 2], np.float32),
        "blur": (np.eye(3, dtype=np.float32)[..., None, None] * np.full((3, 3), 1 / 9.5, np.float32)),
    }
    del model.graph.node[:]
    model.graph.node.extend([*to_nchw, *nodes, to_nhwc, *rest])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    write_model(model, card, models)


def test_main_writes_the_generator_that_gives_the_same_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = write_tiny_models(tmp_path / "models")
    _add_convolution(models)
    lr = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3), np.uint8)
    (before,) = load_model(models, GeneratorCard).run(lr, SUPER_RESOLVED)
    old_card = load_fp32_card(models, GeneratorCard)

    main([str(SLIDES), "--models", str(models), "--cells", "3"])
    assert load_fp32_card(models, GeneratorCard) == old_card
    main([str(SLIDES), "--models", str(models), "--cells", "3", "--write"])

    assert "3 cells: at most " in capsys.readouterr().out
    card = load_fp32_card(models, GeneratorCard)
    assert card == old_card.model_copy(update={"sha256": card.sha256})
    operations = {node.op_type for node in onnx.load(models / card.file).graph.node}
    assert "ConvTranspose" in operations
    assert "Conv" not in operations
    (after,) = load_model(models, GeneratorCard).run(lr, SUPER_RESOLVED)
    assert np.abs(after.astype(int) - before).max() <= 1

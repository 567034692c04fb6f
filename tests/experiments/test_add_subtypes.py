"""`python -m experiments.add_subtypes`: one more output, and the others as they were."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from wbctool_training.export import round_weights_fp16

from experiments.add_subtypes import add_layer, main
from wbctool.errors import SettingsInvalid
from wbctool.inference.classifier_head import read_last_layer
from wbctool.inference.model_card import CompactCard, default_models_dir, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import FEATURES, LOGITS, SUBTYPES, create_session


def test_add_layer_maps_the_features_and_changes_no_other_output() -> None:
    models = default_models_dir()
    card = load_fp32_card(models, CompactCard).model_copy(update={"subtypes": ()})
    content = read_model_bytes(card, models)
    model = onnx.load_from_string(content)
    for values in (model.graph.output, model.graph.node, model.graph.initializer):
        for value in [value for value in values if value.name.startswith(SUBTYPES)]:
            values.remove(value)
    without = model.SerializeToString()
    layer = torch.nn.Linear(1280, 3)
    round_weights_fp16(layer)

    new = add_layer(without, layer)

    rgb = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    logits, features, subtypes = create_session(card, new, threads=1).run(rgb, LOGITS, FEATURES, SUBTYPES)
    before = create_session(card, without, threads=1).run(rgb, LOGITS, FEATURES)
    assert (logits == before[0]).all()
    assert (features == before[1]).all()
    with torch.inference_mode():
        expected = layer(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(subtypes, expected, rtol=1e-4, atol=1e-4)
    assert (read_last_layer(new).weight == read_last_layer(without).weight).all()


def test_main_reader_that_tells_subtypes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"compact\.onnx tells subtypes already: band, segmented"):
        main(["--data", str(tmp_path), "--out", str(tmp_path), "--models", str(default_models_dir())])

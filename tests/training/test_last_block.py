"""The deep way of `wbctool adapt`, with the shipped first reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from wbctool_training import last_block
from wbctool_training.last_block import LastBlockTuner

from wbctool.errors import ModelMismatch
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import resize_square
from wbctool.inference.classifier_head import read_last_layer
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import CPU, FEATURES, LOGITS, create_session
from wbctool.inference.training_info import TrainingInfo

FIELD = min((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())
CARD = load_fp32_card(default_models_dir(), ClassifierCard)
SHIPPED = read_model_bytes(CARD, default_models_dir())
LAYER = read_last_layer(SHIPPED)
N_CELLS = 4


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """Parts of a field, as different as cells."""
    field = read_field(FIELD).rgb
    return np.stack([resize_square(field[80 * i : 80 * i + 160, 100 * i : 100 * i + 160], 128) for i in range(N_CELLS)])


@pytest.fixture(scope="module")
def tuner(rgb: np.ndarray) -> LastBlockTuner:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last_block, "MAX_VIEWS", 2)
        return LastBlockTuner(SHIPPED, CARD, rgb, lambda items, *_: items)


def test_tuner_without_a_step_gives_the_shipped_features(tuner: LastBlockTuner, rgb: np.ndarray) -> None:
    tuned = tuner(LAYER, np.full(N_CELLS, -1), np.ones(N_CELLS))
    features, logits = create_session(CARD, SHIPPED, CPU).run(rgb, FEATURES, LOGITS)
    assert np.abs(tuned.features - features).max() < 0.01 * np.abs(features).max()  # the maps are in half precision
    assert np.abs(tuned.layer.compute_logits(tuned.features) - logits).max() < 0.05


def test_tuner_learns_the_cells_that_it_is_given_and_exports_what_it_has_learned(
    tuner: LastBlockTuner, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_block, "_TUNED_SHARE", 1.0)
    shipped = tuner(LAYER, np.full(N_CELLS, -1), np.ones(N_CELLS))
    y_true = np.array([7, 7, -1, -1])  # the last two teach nothing

    def probability_of_y(logits: np.ndarray) -> np.ndarray:
        return torch.softmax(torch.from_numpy(logits), dim=1)[:2, 7].numpy()

    tuned = tuner(LAYER, y_true, np.ones(N_CELLS))
    before = probability_of_y(shipped.layer.compute_logits(shipped.features))
    after = probability_of_y(tuned.layer.compute_logits(tuned.features))
    assert (after > before).all()
    again = tuner(LAYER, y_true, np.array([1.0, 1.0, 9.0, 9.0]))
    assert np.array_equal(again.features, tuned.features)  # neither chance nor the weight of other cells
    features, logits = create_session(CARD, tuned.export(), CPU).run(rgb, FEATURES, LOGITS)
    assert np.abs(features - tuned.features).max() < 0.01 * np.abs(tuned.features).max()
    assert np.abs(logits - tuned.layer.compute_logits(features)).max() < 0.01


def test_tuner_refuses_a_network_that_is_no_vgg(rgb: np.ndarray) -> None:
    card = CARD.model_copy(update={"training": TrainingInfo(backbone="resnet50")})
    with pytest.raises(ModelMismatch, match="resnet50: only a VGG's weights can be read back"):
        LastBlockTuner(SHIPPED, card, rgb, lambda items, *_: items)

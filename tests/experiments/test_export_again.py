"""`python -m experiments.export_again`: the same weights in today's graph."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from experiments.export_again import main
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.session import CAM, FEATURES, LOGITS
from wbctool.inference.training_features import read_training_features

SLIDES = Path(__file__).parents[1] / "data" / "slides"


@pytest.mark.slow
def test_main_writes_a_classifier_that_gives_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"
    shutil.copytree(default_models_dir(), models)
    rgb = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    old_card = load_fp32_card(models, ClassifierCard)
    before = load_model(models, ClassifierCard).run(rgb, LOGITS, FEATURES)

    main([str(SLIDES), "--models", str(models), "--cells", "2", "--write"])

    assert "2 cells: logits at most " in capsys.readouterr().out
    card = load_fp32_card(models, ClassifierCard)
    assert card.model_dump_json() == old_card.model_copy(update={"sha256": card.sha256}).model_dump_json()
    model = load_model(models, ClassifierCard)
    assert CAM in model.output_names
    for one, other in zip(before, model.run(rgb, LOGITS, FEATURES), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert len(read_training_features(models, card).y_true) > 1000

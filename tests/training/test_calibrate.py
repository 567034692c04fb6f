"""`wbctool calibrate`: what it changes of a classifier, and what it leaves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import wbctool_training.calibrate
from tiny_training import assign_split, copy_shipped_models, make_adaptation, make_training_context
from wbctool_training.calibrate import calibrate
from wbctool_training.data.cell_index import crop_cell

from wbctool.datasets.labelled import Split
from wbctool.errors import LabelledDataInvalid, ModelMismatch, ModelNotFound, SettingsInvalid
from wbctool.imaging.crop import hash_crop
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import CellClassifierCard, ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.model_folder import check_models, encode_card
from wbctool.inference.training_features import read_training_features
from wbctool.types.cells import Crop

SHIPPED = default_models_dir()
FITTED = {"temperature", "confidence_threshold", "energy_threshold"}


@pytest.fixture
def few_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's data have 10 validation cells of 4 groups."""
    monkeypatch.setattr(wbctool_training.calibrate, "MIN_CELLS", 4)
    monkeypatch.setattr(wbctool_training.calibrate, "MIN_GROUPS", 3)


def write_classifier(folder: Path, **changes: object) -> Path:
    """Write the shipped models with another card of the classifier."""
    copy_shipped_models(folder)
    shutil.copy(SHIPPED / "classifier.features.npz", folder)
    card = load_fp32_card(SHIPPED, ClassifierCard).model_copy(update=changes)
    (folder / "classifier.json").write_bytes(encode_card(card))
    return folder


def card_content(card: CellClassifierCard) -> dict[str, object]:
    """What calibration must leave in a card."""
    return card.model_dump(exclude={**dict.fromkeys(FITTED, True), "training": {"calibrated_on"}})


def test_calibrate_few_cells_is_refused(data: Path, tmp_path: Path) -> None:
    """On one cell the temperature ends at its bound, and no cell would go to review."""
    with pytest.raises(
        LabelledDataInvalid, match=r"only 10 cells of 4 groups.*: to calibrate, 100 cells of 20 groups are needed"
    ):
        calibrate([data], tmp_path, [SHIPPED])


@pytest.mark.usefixtures("few_are_enough")
def test_calibrate_changes_temperature_and_thresholds_alone(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate([data], tmp_path, [SHIPPED])
    assert [problem for _, problem in check_models(tmp_path) if problem] == []  # the other models were copied
    before, after = (load_fp32_card(folder, ClassifierCard) for folder in (SHIPPED, tmp_path))
    assert card_content(after) == card_content(before)
    assert after.training.calibrated_on == {"cells": 4, "fields": 6}
    assert all(getattr(after, name) != getattr(before, name) for name in FITTED)
    for name in ("classifier.onnx", "classifier.features.npz"):
        assert (tmp_path / name).read_bytes() == (SHIPPED / name).read_bytes()
    assert "fitted to only 10 cells of 4 groups of cells: verify them there before use" in caplog.text
    assert "fitted to no cell of" in caplog.text


@pytest.mark.usefixtures("few_are_enough")
def test_calibrate_adapted_classifier_stays_adapted_and_leaves_its_cells_out(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    copy_shipped_models(tmp_path / "detector", "detector")
    cells = make_training_context(data, recipe, tmp_path, tmp_path / "detector").load_cells()
    learned = next(c for c in cells if c.dataset == "fields" and c.label and assign_split(c.group) is Split.VALIDATION)
    card = load_fp32_card(SHIPPED, ClassifierCard)
    adaptation = make_adaptation(hash_crop(Crop(crop_cell(learned, card.crop_margin))))
    adapted = write_classifier(tmp_path / "adapted", adaptation=adaptation)
    calibrate([data], tmp_path / "out", [adapted])
    after = load_fp32_card(tmp_path / "out", ClassifierCard)
    assert after.adaptation == adaptation
    assert after.training.calibrated_on == {"cells": 3, "fields": 5}  # both images of the cell


@pytest.mark.usefixtures("few_are_enough")
def test_calibrate_mean_of_two_knows_the_cells_that_they_were_trained_on(data: Path, tmp_path: Path) -> None:
    training = load_fp32_card(SHIPPED, ClassifierCard).training
    told = [training.model_copy(update={"datasets": datasets}) for datasets in ({"fields": 6, "pbc": 9}, {"lab": 3})]
    parents = [write_classifier(tmp_path / str(n), training=each) for n, each in enumerate(told)]
    calibrate([data], tmp_path / "out", parents)
    before, after = (load_model(folder, ClassifierCard) for folder in (SHIPPED, tmp_path / "out"))
    assert after.card.training.datasets == {"fields": 6, "lab": 3, "pbc": 9}
    assert after.card.training.calibrated_on == {"cells": 4, "fields": 6}
    assert after.card.training.started_from == f"{before.card.sha256} + {before.card.sha256}"
    assert after.card.recipe == before.card.recipe
    replayed = read_training_features(tmp_path / "out", after.card)
    n_training_cells = len(replayed.y_true)
    assert 0 < n_training_cells < len(list((data / "fields" / "images").iterdir()))  # of the data set fields alone
    assert after.card.familiarity is not None
    rgb = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    assert np.abs(before.run(rgb)[0] - after.run(rgb)[0]).max() < 0.02


@pytest.mark.usefixtures("few_are_enough")
@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (LabelledDataInvalid, "needs cells that they were trained on", {}),
        (ModelMismatch, "was adapted to our laboratory", {"adaptation": make_adaptation()}),
    ],
)
def test_calibrate_mean_that_would_know_too_little_is_refused(
    data: Path, tmp_path: Path, error: type[Exception], message: str, changes: dict[str, object]
) -> None:
    with pytest.raises(error, match=message):
        calibrate([data], tmp_path / "out", [SHIPPED, write_classifier(tmp_path / "other", **changes)])
    assert not (tmp_path / "out" / "classifier.json").exists()


def test_calibrate_without_a_model_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="needs a trained model"):
        calibrate([data], tmp_path / "out", [])
    with pytest.raises(ModelNotFound):
        calibrate([data], tmp_path / "out", [tmp_path])
    assert not list(tmp_path.iterdir())

"""`wbctool models stain-reference`: which fields are measured, and what the card then has."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.datasets.labelled import GroupSplit, LabelledField, Split
from wbctool.inference.color_range import ColorRange
from wbctool.inference.model_card import DetectorCard, default_models_dir, load_fp32_card
from wbctool.types.slides import FieldColors

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


def names_of(split, number):
    """File names of BCCD's kind whose groups are of a split."""
    named = ((f"BloodImage_{n:05d}.jpg", LabelledField(Path(), str(n), "bccd_fields", (), ())) for n in range(900))
    return [name for name, field in named if GroupSplit().assign(field) is split][:number]


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("detector.onnx", "detector.json"):
        shutil.copy(default_models_dir() / name, folder)
    card = json.loads((folder / "detector.json").read_text()) | {"stain_reference": []}
    (folder / "detector.json").write_text(json.dumps(card))
    return folder


def fields(tmp_path, names):
    data = tmp_path / "somewhere"
    (data / "images").mkdir(parents=True)
    for name, path in zip(names, DEMO, strict=False):
        shutil.copy(path, data / "images" / name)
    rows = "".join(f"{name},wbc,1,1,9,9\n" for name in names)
    (data / "boxes.csv").write_text("image,kind,xmin,ymin,xmax,ymax\n" + rows)
    return data


def test_stain_reference_measures_training_groups_and_keeps_rest_of_card(tmp_path, models):
    data = fields(tmp_path, [*names_of(Split.TRAIN, 2), *names_of(Split.TEST, 2)])
    before = load_fp32_card(models, DetectorCard)
    done = CliRunner().invoke(app, ["models", "stain-reference", str(data), "--models", str(models)])
    assert done.exit_code == 0, done.output
    card = load_fp32_card(models, DetectorCard)
    (entry,) = card.stain_reference
    assert (entry.dataset, entry.fields) == ("somewhere", 2)
    assert all(low <= high for low, high in zip(entry.background_low, entry.background_high, strict=True))
    assert 70 < entry.background_low[0] < 85  # the demo fields' background: light, nearly without color
    assert abs(entry.background_low[1]) < 5
    assert card.model_copy(update={"stain_reference": ()}) == before


def test_stain_reference_writes_the_card_that_was_read(tmp_path, models, monkeypatch):
    """Its model may have any name; a card beside it would leave the detector's without colors."""
    card = json.loads((models / "detector.json").read_text()) | {"file": "detector-2.onnx"}
    (models / "detector.json").write_text(json.dumps(card))
    (models / "detector.onnx").rename(models / "detector-2.onnx")
    gray = ColorRange(
        dataset="o",
        fields=1,
        background_low=(1, 0, 0),
        background_high=(1, 0, 0),
        cells_low=(1, 0, 0),
        cells_high=(1, 0, 0),
    )
    monkeypatch.setattr("wbctool.evaluation.stain_reference.measure_stain_reference", lambda *_: (gray,))
    done = CliRunner().invoke(app, ["models", "stain-reference", str(tmp_path), "--models", str(models)])
    assert done.exit_code == 0, done.output
    assert load_fp32_card(models, DetectorCard).stain_reference == (gray,)
    assert sorted(path.name for path in models.iterdir()) == ["detector-2.onnx", "detector.json"]


def test_stain_reference_unreadable_field_is_named(tmp_path, models):
    data = fields(tmp_path, names_of(Split.TRAIN, 1))
    (bad,) = (data / "images").iterdir()
    bad.write_bytes(b"")
    done = CliRunner().invoke(app, ["models", "stain-reference", str(data), "--models", str(models)])
    assert (done.exit_code, done.stderr) == (1, f"wbctool: {bad}: the file is empty\n")


def test_stain_reference_without_training_groups_writes_nothing(tmp_path, models):
    data = fields(tmp_path, names_of(Split.TEST, 1))
    before = (models / "detector.json").read_bytes()
    done = CliRunner().invoke(app, ["models", "stain-reference", str(data), "--models", str(models)])
    assert done.exit_code == 1
    assert "no fields of training groups" in done.output
    assert (models / "detector.json").read_bytes() == before


@pytest.mark.parametrize("color", [None, (80.0, 0.0, 0.0)])
def test_stain_reference_without_background_or_cells_is_refused(tmp_path, models, monkeypatch, color):
    data = fields(tmp_path, names_of(Split.TRAIN, 1))
    monkeypatch.setattr("wbctool.evaluation.stain_reference.measure_colors", lambda *_: FieldColors(color, None))
    done = CliRunner().invoke(app, ["models", "stain-reference", str(data), "--models", str(models)])
    assert (done.exit_code, done.stderr) == (1, "wbctool: somewhere: no field shows background, or none shows cells\n")

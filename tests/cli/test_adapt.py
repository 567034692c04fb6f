"""`wbctool adapt` on tiny models: from class folders, label pages and reviews to a folder of models."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_laboratory import COLORS, ORDER, PITCH_PX, draw
from tiny_models import write_tiny_models
from typer.testing import CliRunner

from wbctool.adaptation.adapt import compute_features
from wbctool.adaptation.cells import read_labelled_cells
from wbctool.adaptation.labels_file import LabelledCell, Labels, NoClass, Purpose, format_labels
from wbctool.adaptation.readers import Tuner
from wbctool.adaptation.sources import read_sources
from wbctool.cli import app
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.evaluation.classification import predict
from wbctool.evaluation.evaluate import evaluate
from wbctool.inference.classifier_head import LastLayer, replace_last_layer
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import CellClassifierCard, ClassifierCard, GeneratorCard, load_fp32_card
from wbctool.inference.model_folder import encode_card
from wbctool.inference.quantization_info import QuantizationInfo
from wbctool.inference.session import CPU, create_session
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.report.categories import category_of
from wbctool.store.reader import read_published_slides
from wbctool.store.slide_record import find_slide_record
from wbctool.types.progress import Progress
from wbctool.types.results import PublishedSlide

pytestmark = pytest.mark.slow

TIME = datetime(2026, 11, 28, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_models(tmp_path_factory.mktemp("models") / "shipped")


def draw_folders(root: Path) -> Path:
    """Draw twenty cells of each class, each an image and a group of its own."""
    for i in range(20):
        for label in COLORS:
            draw(root / label / f"{label}-{i}.png", [label], seed=i + 100 * len(label))
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    return draw_folders(tmp_path / "lab")


def adapt(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["adapt", *map(str, arguments)])


@pytest.fixture(scope="module")
def adapted(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models adapted to the class folders beside them."""
    root = tmp_path_factory.mktemp("adapted")
    result = adapt(draw_folders(root / "lab"), "--models", models, "--out", root / "lab-models")
    assert result.exit_code == 0, result.output
    assert "McNemar by slide: " in result.stdout
    return root / "lab-models"


def test_adapt_class_folders_writes_models_that_know_the_laboratory(adapted: Path, models: Path) -> None:
    out = adapted
    content = json.loads((out / "adaptation.json").read_text())
    assert content["comparison"]["after"]["accuracy"]["percent"] == 100
    assert content["comparison"]["before"]["accuracy"]["percent"] < 60
    assert content["cells_by_label"] == {"basophil": 20, "monocyte": 20}
    card = load_fp32_card(out, ClassifierCard)
    assert card.adaptation is not None
    assert card.adaptation.laboratory == "lab-models"
    assert card.adaptation.parent_sha256 == load_fp32_card(models, ClassifierCard).sha256
    assert len(card.adaptation.cell_sha256) == 40
    assert CliRunner().invoke(app, ["models", "verify", "--models", str(out)]).exit_code == 0
    assert load_models(out, Device.CPU, Precision.FP32).second is not None
    page = (out / "adaptation.html").read_text()
    assert "100.0 % are now" in page


def test_adapt_is_the_same_for_the_same_cells(adapted: Path, models: Path, tmp_path: Path) -> None:
    out = tmp_path / "lab-models"
    assert adapt(adapted.parent / "lab", "--models", models, "--out", out).exit_code == 0
    for file in ("classifier.onnx", "classifier.json", "compact.onnx", "adaptation.json", "adaptation.html"):
        assert (out / file).read_bytes() == (adapted / file).read_bytes()


@dataclass(frozen=True)
class FakeNetwork:
    """A network of which only the last layer differs from the shipped one."""

    layer: LastLayer
    features: NDArray[np.float32]
    shipped: bytes

    def export(self) -> bytes:
        return replace_last_layer(self.shipped, self.layer)


def make_fake_tuner(content: bytes, card: CellClassifierCard, rgb: NDArray[np.uint8], progress: Progress) -> Tuner:
    features = compute_features(rgb, create_session(card, content, CPU), progress)
    return lambda layer, y_true, weights: FakeNetwork(layer, features, content)


def test_adapt_deep_writes_what_was_tuned_and_says_so(
    adapted: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wbctool.cli.adapt._import_tuner", lambda: make_fake_tuner)
    out = tmp_path / "deep-models"
    result = adapt(adapted.parent / "lab", "--models", models, "--out", out, "--deep")
    assert result.exit_code == 0, result.output
    assert "the last block of the first reader is tuned too" in result.stdout
    assert json.loads((out / "adaptation.json").read_text())["methods"] == {
        "classifier.onnx": "deep",
        "compact.onnx": "default",
    }
    listed = CliRunner().invoke(app, ["models", "list", "--models", str(out)]).stdout
    assert "adapted by the deep method with 40 cells of 40 slides" in listed
    assert "adapted with 40 cells of 40 slides" in listed
    assert CliRunner().invoke(app, ["models", "verify", "--models", str(out)]).exit_code == 0


def test_adapt_deep_without_torch_names_the_extra(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "wbctool_training"]:
        monkeypatch.delitem(sys.modules, name)
    result = adapt(folders, "--out", tmp_path / "lab-models", "--deep")
    assert result.exit_code == 1
    assert result.stderr == "wbctool: `wbctool adapt --deep` needs torch: pip install 'wbctool[train]'\n"


def test_adapt_models_that_are_right_already_writes_nothing(folders: Path, models: Path, tmp_path: Path) -> None:
    loaded = load_models(models, Device.CPU, Precision.FP32)
    cells = read_labelled_cells(folders, loaded, lambda items, *_: items)
    for cell, prediction in zip(cells, predict([c.crop for c in cells], loaded, SuperResolve.AUTO), strict=True):
        image = Path(cell.origin)
        (tmp_path / "right" / prediction.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, tmp_path / "right" / prediction.label / image.name)
    next((tmp_path / "right" / "neutrophil").iterdir()).unlink()  # four cells of another class are too few
    out = tmp_path / "lab-models"
    result = adapt(tmp_path / "right", "--models", models, "--out", out)
    assert result.exit_code == 3, result.output
    assert "erythroblast: 35 of 35, 100.0 % (90.0 to 100.0) before" in result.stdout
    assert "not surely better than naming every cell by the commonest class" in result.stderr
    assert not out.exists()


def test_adapt_that_writes_nothing_says_how_to_find_doubtful_labels(
    folders: Path, models: Path, tmp_path: Path
) -> None:
    loaded = load_models(models, Device.CPU, Precision.FP32)
    cells = read_labelled_cells(folders, loaded, lambda items, *_: items)
    predictions = predict([c.crop for c in cells], loaded, SuperResolve.AUTO)
    for i, (cell, prediction) in enumerate(zip(cells, predictions, strict=True)):
        label = "platelet" if i in (5, 30) else prediction.label  # two slips
        (tmp_path / "slips" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.origin, tmp_path / "slips" / label)
    next((tmp_path / "slips" / "neutrophil").iterdir()).unlink()  # four cells of another class are too few
    result = adapt(tmp_path / "slips", "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 3, result.output
    assert "labeled platelet, looks like erythroblast" in result.stdout
    assert "look at the labels named above first" in result.stdout


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (14, "28 labeled cells of classes that the models know; 30 are needed"),
        (0, "holds neither class folders with images, nor labeled fields, nor results of a run"),
    ],
)
def test_adapt_too_few_cells_writes_nothing(
    folders: Path, models: Path, tmp_path: Path, keep: int, message: str
) -> None:
    for label in COLORS:
        for i in range(keep, 20):
            (folders / label / f"{label}-{i}.png").unlink()
    result = adapt(folders, "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == (3 if keep else 1)
    assert message in result.stderr
    assert not (tmp_path / "lab-models").exists()


def test_adapt_cell_with_two_labels_is_refused_by_name(folders: Path, models: Path, tmp_path: Path) -> None:
    shutil.copy(folders / "monocyte" / "monocyte-3.png", folders / "basophil" / "again.png")
    result = adapt(folders, "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 1
    assert "1 cell labeled twice, differently" in result.stderr
    assert "again.png" in result.stderr
    assert "monocyte-3.png" in result.stderr


def test_adapt_adapted_models_starts_again_from_the_shipped_ones(
    adapted: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wbctool.inference.model_card.default_models_dir", lambda: models)
    out = shutil.copytree(adapted, tmp_path / "lab-models")
    result = adapt(adapted.parent / "lab", "--models", out, "--out", out)
    assert result.exit_code == 0, result.output
    assert "is adapted already: starting again from the shipped models" in result.stdout
    for file in ("classifier.onnx", "classifier.json", "compact.onnx", "compact.json"):
        assert (out / file).read_bytes() == (adapted / file).read_bytes()


@pytest.mark.parametrize("changed", ["classifier", "compact"])
def test_adapt_models_adapted_from_others_are_refused_with_their_parents_sha256(
    adapted: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    shipped = shutil.copytree(models, tmp_path / "shipped")
    card = json.loads((shipped / f"{changed}.json").read_text())
    (shipped / f"{changed}.json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    monkeypatch.setattr("wbctool.inference.model_card.default_models_dir", lambda: shipped)
    monkeypatch.setattr("wbctool.adaptation.sources.read_sources", None)  # no source is read
    result = adapt(adapted.parent / "lab", "--models", adapted, "--out", tmp_path / "two")
    assert result.exit_code == 1
    assert load_fp32_card(models, ClassifierCard).sha256 in result.stderr
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("kept", "other"), [("classifier", "compact"), ("compact", "classifier")])
def test_adapt_models_with_one_reader_adapts_it(
    adapted: Path, models: Path, tmp_path: Path, kept: str, other: str
) -> None:
    own = shutil.copytree(models, tmp_path / "own")
    for file in own.glob(f"{other}.*"):
        file.unlink()
    result = adapt(adapted.parent / "lab", "--models", own, "--out", tmp_path / "lab-models")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "lab-models" / f"{kept}.onnx").is_file()
    assert not list((tmp_path / "lab-models").glob(f"{other}.*"))


def write_int8_cards(folder: Path) -> None:
    """Write cards as of int8 copies of the first reader and the generator, beside files in place of the models."""
    for kind in (ClassifierCard, GeneratorCard):
        card = load_fp32_card(folder, kind)
        info = QuantizationInfo(
            source_sha256=card.sha256,
            calibrated_on="",
            measured_on="",
            cells=1,
            images=1,
            changed_labels=0,
            changed_outcomes=0,
        )
        file = f"{card.kind}.int8.onnx"
        changes = {"file": file, "precision": Precision.INT8, "quantized_from": info}
        (folder / f"{card.kind}.int8.json").write_bytes(encode_card(card.model_copy(update=changes)))
        (folder / file).write_bytes(b"copy")


def test_adapt_again_deletes_the_copies_of_replaced_models_alone(adapted: Path, models: Path, tmp_path: Path) -> None:
    out = shutil.copytree(adapted, tmp_path / "lab-models")
    write_int8_cards(out)
    assert adapt(adapted.parent / "lab", "--models", models, "--out", out).exit_code == 0  # the same models again
    assert (out / "classifier.int8.json").is_file()
    lab = shutil.copytree(adapted.parent / "lab", tmp_path / "lab")
    draw(lab / "monocyte" / "another.png", ["monocyte"], seed=900)
    assert adapt(lab, "--models", models, "--out", out).exit_code == 0
    assert sorted(path.name for path in out.glob("*.int8.*")) == ["generator.int8.json", "generator.int8.onnx"]


def test_adapt_one_reader_into_models_with_both_is_wrong_usage(adapted: Path, models: Path, tmp_path: Path) -> None:
    own, out = shutil.copytree(models, tmp_path / "own"), shutil.copytree(adapted, tmp_path / "lab-models")
    (own / "compact.json").unlink()
    result = adapt(adapted.parent / "lab", "--models", own, "--out", out)
    assert result.exit_code == 2
    assert "compact.json there is of a reader" in result.stderr


def test_adapt_over_files_of_others_or_the_models_themselves_is_wrong_usage(
    folders: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "notes"
    out.mkdir()
    (out / "adaptation.html").write_text("mine")
    assert adapt(folders, "--models", models, "--out", out).exit_code == 2
    assert (out / "adaptation.html").read_text() == "mine"
    assert adapt(folders, "--models", models, "--out", models).exit_code == 2


@pytest.fixture
def results(models: Path, tmp_path: Path) -> Path:
    """Results of a run on six slides of eight cells each."""
    for slide in range(6):
        draw(tmp_path / "slides" / f"s{slide}" / "f.png", ORDER, seed=slide)
    out = tmp_path / "counts.csv"
    command = ["run", tmp_path / "slides", "--out", out, "--models", models, "--quiet"]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    return out


def write_labels(results: Path, path: Path, label_of: Any = None, n_unknown: int = 0) -> Labels:
    """Label every cell by its position, as the laboratory calls it; of each slide, the first may be of no class.

    These are then the only ones that were chosen at random.
    """
    output = OutputPaths.from_path(results)
    cells, hashes = [], {}
    for slide in read_published_slides(output):
        assert isinstance(slide, PublishedSlide)
        record = find_slide_record(output, slide.result.slide)
        assert record is not None
        hashes[record.slide] = fakes.hash_cells(output.slide_file(record.slide, "cells.csv"))
        for cell in slide.result.cells:
            box = cell.detection.box
            position = (box.x + box.width // 2) // PITCH_PX
            is_unknown = position < n_unknown
            cell_label = label_of(ORDER[position]) if label_of else CellClass(ORDER[position])
            cells.append(
                LabelledCell(
                    slide=record.slide,
                    field=cell.field,
                    field_sha256=record.fields[0].sha256 or "",
                    cell=cell.index,
                    box=box,
                    chosen=Purpose.TEACH if n_unknown and not is_unknown else Purpose.MEASURE,
                    label=NoClass.NONE_OF_THESE if is_unknown else cell_label,
                    time=TIME,
                    answer_shown=False,
                )
            )
    labels = Labels(
        reader="AB",
        created=TIME,
        tool_version="test",
        page="0" * 64,
        cells_asked=len(cells),
        results=hashes,
        cells=tuple(cells),
    )
    path.write_bytes(format_labels(labels))
    return labels


@pytest.mark.parametrize("name", ["counts.csv", "counts", "counts/run.json"])
def test_adapt_results_with_labels_learns_from_the_fields(
    results: Path, models: Path, tmp_path: Path, name: str
) -> None:
    write_labels(results, tmp_path / "labels.json")
    out = tmp_path / "lab-models"
    result = adapt(results.parent / name, tmp_path / "labels.json", "--models", models, "--out", out)
    assert result.exit_code == 0, result.output
    assert "cells chosen at random" in result.stdout
    card = load_fp32_card(out, ClassifierCard)
    assert card.adaptation is not None
    assert card.adaptation.readers == ("AB",)
    assert card.adaptation.groups == 6
    by_slide = card.adaptation.cells_by_group
    assert list(by_slide) == [f"s{i}" for i in range(6)]
    assert sum(by_slide.values()) == len(card.adaptation.cell_sha256)
    listed = CliRunner().invoke(app, ["models", "list", "--models", str(out)]).stdout
    n_of = card.adaptation.cells_by_label
    assert f"cells by label: basophil {n_of['basophil']}, monocyte {n_of['monocyte']}; by slide: s0 " in listed


def test_read_sources_labels_of_one_reader_and_page_are_the_latest(results: Path, models: Path, tmp_path: Path) -> None:
    """The same reader called a cell differently at first, which would be a cell with two labels."""
    later = write_labels(results, tmp_path / "later.json")
    write_labels(results, tmp_path / "first.json", label_of=lambda _: CellClass.EOSINOPHIL)
    (tmp_path / "later.json").write_bytes(format_labels(replace(later, created=TIME + timedelta(hours=1))))
    (tmp_path / "other.json").write_bytes(format_labels(replace(later, reader="CD")))
    files = [tmp_path / f"{name}.json" for name in ("later", "first", "other")]
    laboratory = read_sources([results, *files], load_models(models, Device.CPU, Precision.FP32))
    assert laboratory.labeled_by == ("AB", "CD")
    assert {cell.label for cell in laboratory.cells} == {CellClass(name) for name in ORDER}
    (note,) = laboratory.notes
    named = f"{len(later.cells)} labels of {files[1]}"
    assert note == f"{named} left out: the same reader gave these cells other names later, in {files[0]}"


def test_adapt_class_folders_with_another_run_json_are_no_results(folders: Path, models: Path, tmp_path: Path) -> None:
    (folders / "run.json").write_text("{}")
    result = adapt(folders, "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 0, result.output


def test_adapt_results_names_fields_that_are_gone_or_changed(results: Path, models: Path, tmp_path: Path) -> None:
    write_labels(results, tmp_path / "labels.json")
    (tmp_path / "slides" / "s0" / "f.png").unlink()
    draw(tmp_path / "slides" / "s0" / "g.png", ["monocyte"], seed=1)
    draw(tmp_path / "slides" / "s1" / "f.png", ["monocyte"], seed=1)
    result = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "lab-models")
    assert "labeled cells left out, because their fields are gone or have changed: s0/f.png, s1/f.png" in result.stdout


def test_adapt_cells_that_a_reader_cannot_tell_teach_nothing(results: Path, models: Path, tmp_path: Path) -> None:
    write_labels(results, tmp_path / "labels.json", label_of=lambda _: NoClass.CANNOT_TELL)
    result = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 1
    assert "no cell is labeled" in result.stderr


def test_adapt_cells_that_no_class_fits_are_too_few(results: Path, models: Path, tmp_path: Path) -> None:
    write_labels(results, tmp_path / "labels.json", label_of=lambda _: NoClass.NONE_OF_THESE)
    result = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 3
    assert "0 labeled cells of classes that the models know" in result.stderr


def test_adapt_random_cells_without_a_class_measure_nothing(
    results: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wbctool.adaptation.adapt.MIN_DRAWN_CELLS", 12)
    monkeypatch.setattr("wbctool.adaptation.adapt.cross_validate", None)  # nothing is fitted
    write_labels(results, tmp_path / "labels.json", n_unknown=2)
    result = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 3
    assert "none of the cells that were chosen at random has a class" in result.stderr


def test_adapt_labels_of_other_results_are_refused(results: Path, models: Path, tmp_path: Path) -> None:
    labels = write_labels(results, tmp_path / "labels.json")
    other = replace(labels, cells=tuple(replace(cell, field_sha256="f" * 64) for cell in labels.cells))
    (tmp_path / "labels.json").write_bytes(format_labels(other))
    result = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 1
    assert "labels.json: none of the fields of its cells is in the results" in result.stderr


def test_adapt_results_without_labels_or_reviews_are_refused(results: Path, models: Path, tmp_path: Path) -> None:
    result = adapt(results, "--models", models, "--out", tmp_path / "lab-models")
    assert result.exit_code == 1
    assert "no cell is labeled: no review was applied" in result.stderr


def test_verify_and_evaluate_leave_out_what_was_learned(adapted: Path, folders: Path, tmp_path: Path) -> None:
    for i in range(3):
        draw(folders / "monocyte" / f"new-{i}.png", ["monocyte"], seed=900 + i)
    command = ["verify", folders, "--models", adapted, "--out", tmp_path / "verified"]
    verified = CliRunner().invoke(app, list(map(str, command)))
    assert "3 cells of 3 groups" in verified.stdout
    assert "40 cells left out: the models were adapted with them" in verified.stdout
    models = load_models(adapted, Device.CPU, Precision.FP32)
    cells = evaluate(folders, models, [], None, sr_cells=0, ood_images=0).cells
    assert sorted(cell.image for cell in cells) == ["new-0.png", "new-1.png", "new-2.png"]


def test_verify_slides_leaves_out_those_that_were_learned_from(results: Path, models: Path, tmp_path: Path) -> None:
    write_labels(results, tmp_path / "labels.json")
    out = tmp_path / "lab-models"
    assert adapt(results, tmp_path / "labels.json", "--models", models, "--out", out).exit_code == 0
    slides = tmp_path / "slides"
    for slide in ("new1", "new2"):
        draw(slides / slide / "f.png", ORDER, seed=50 + len(slide) + int(slide[-1]))
    rows = [f"{slide.name},4,4" for slide in slides.iterdir()]
    (slides / "differentials.csv").write_text("\n".join(["slide,monocyte,basophil", *rows]) + "\n")
    command = ["verify", slides, "--models", out, "--out", tmp_path / "verified"]
    verified = CliRunner().invoke(app, list(map(str, command)))
    assert verified.exit_code == 3, verified.output
    assert "2 slides, 0 with enough counted cells" in verified.stdout
    for i in range(6):
        assert f"s{i} is left out: the models were adapted with cells of it" in verified.stdout
    assert "new1 is left out" not in verified.stdout
    as_shipped = ["verify", slides, "--models", models, "--out", tmp_path / "verified-shipped"]
    assert "8 slides, 0 with" in CliRunner().invoke(app, list(map(str, as_shipped))).stdout


def test_models_list_says_what_a_model_was_adapted_with(adapted: Path) -> None:
    listed = CliRunner().invoke(app, ["models", "list", "--models", str(adapted)]).stdout
    assert "classifier, adapted to lab-models 0" in listed
    assert "adapted with 40 cells of 40 slides: 100.0% right instead of " in listed
    as_json = json.loads(CliRunner().invoke(app, ["models", "list", "--json", "--models", str(adapted)]).stdout)
    assert [model["adaptation"]["groups"] for model in as_json["models"] if model.get("adaptation")] == [40, 40]


def apply_review(results: Path, folder: Path) -> None:
    """Move the cells of every slide to what the laboratory calls them, as a reader AB does."""
    output = OutputPaths.from_path(results)
    for slide in read_published_slides(output):
        assert isinstance(slide, PublishedSlide)
        moves = []
        for row, cell in enumerate(slide.result.cells, start=1):
            box, was = cell.detection.box, category_of(cell.prediction)
            name = ORDER[(box.x + box.width // 2) // PITCH_PX]
            move = {"row": row, "field": cell.field, "cell": cell.index, "from": was, "to": name, "comment": ""}
            moves += [move] if was != name else []
        content = {
            "schema": "wbctool-review/1",
            "slide": slide.result.slide,
            "results": fakes.hash_cells(output.slide_file(slide.result.slide, "cells.csv")),
            "reader": "AB",
            "time": TIME.isoformat(),
            "comment": "",
            "cells": moves,
        }
        path = folder / f"review-{slide.result.slide}.json"
        path.write_text(json.dumps(content))
        applied = CliRunner().invoke(app, ["review", "apply", str(results), str(path)])
        assert applied.exit_code == 0, applied.output


def test_adapt_results_with_applied_reviews_learns_what_the_reader_moved(
    results: Path, models: Path, tmp_path: Path
) -> None:
    apply_review(results, tmp_path)
    out = tmp_path / "lab-models"
    result = adapt(results, "--models", models, "--out", out)
    assert result.exit_code == 0, result.output
    content = json.loads((out / "adaptation.json").read_text())
    assert content["readers"] == ["AB"]
    assert not content["measured_at_random"]
    before, after = (content["comparison"][when]["accuracy"]["percent"] for when in ("before", "after"))
    assert before < 60
    assert after > 80


def test_run_with_adapted_models_names_the_adaptation_and_the_labels_hold(
    results: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "lab-models"
    write_labels(results, tmp_path / "labels.json")
    assert adapt(results, tmp_path / "labels.json", "--models", models, "--out", out).exit_code == 0
    draw(tmp_path / "slides" / "s9" / "f.png", ORDER, seed=77)
    command = ["run", tmp_path / "slides", "--out", results, "--models", out, "--quiet"]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    page = (results.with_suffix("") / "s9" / "report.html").read_text()
    assert "classifier, adapted to lab-models" in page
    again = adapt(results, tmp_path / "labels.json", "--models", models, "--out", tmp_path / "two")
    assert again.exit_code == 0, again.output
    for file in ("classifier.onnx", "compact.onnx"):
        assert (tmp_path / "two" / file).read_bytes() == (out / file).read_bytes()

"""`wbctool evaluate` on real fields with the shipped models."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wbctool.cli.app import app
from wbctool.cli.evaluate import evaluate_models
from wbctool.datasets.labelled import LabelledBox, LabelledField, Split
from wbctool.enums import Precision, Readers, SplitChoice, SuperResolve
from wbctool.errors import LabelledDataInvalid, OutputNotWritable
from wbctool.evaluation.evaluate import Evaluation, evaluate
from wbctool.evaluation.ood import evaluate_ood
from wbctool.evaluation.text_tables import build_tables, to_markdown
from wbctool.evaluation.writer import write_evaluation
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import Models
from wbctool.labels import CellClass
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import Box, Crop, ObjectClass, Outcome, Prediction, Reason

pytestmark = pytest.mark.slow  # it works with the shipped models

pytest.importorskip("sklearn")
DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


COUNTED = Prediction(CellClass.NEUTROPHIL, 1.0, (1.0,), 0.0, Outcome.COUNTED, Reason.NONE)


@pytest.fixture(scope="module")
def models(shipped_models: Models) -> Models:
    return shipped_models


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, models: Models) -> Path:
    """Three demo fields as class folders, and as fields whose boxes are the detector's, the last one's moved away."""
    root = tmp_path_factory.mktemp("labelled")
    for path, name in zip(DEMO[:3], ("NEUTROPHIL", "NEUTROPHIL", "PLATELET"), strict=True):
        (root / "cells" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "cells" / name / path.name)
    (root / "fields" / "images").mkdir(parents=True)
    with (root / "fields" / "boxes.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(("image", "kind", "xmin", "ymin", "xmax", "ymax"))
        for number, path in enumerate(DEMO[:3]):
            shutil.copy(path, root / "fields" / "images" / path.name)
            box = detect_cells(read_field(path), models.detector)[0].box
            x, y = (box.x, box.y) if number < 2 else (0, 0)
            table.writerow((path.name, "wbc", x, y, x + box.width, y + box.height))
    return root


@pytest.fixture(scope="module")
def result(data: Path, models: Models) -> Evaluation:
    return evaluate(data, models, [models.generator], None)


def test_evaluate_wrong_label_lowers_accuracy_and_is_in_confusion_matrix(result: Evaluation) -> None:
    (report,) = result.classifier
    platelets = report.classes.index("platelet")
    assert report.images == 3
    assert report.per_class["platelet"]["support"] == 1
    assert report.per_class["platelet"]["recall"] == 0.0
    assert sum(report.confusion[platelets]) == 1
    assert report.accuracy <= 2 / 3


def test_evaluate_misclassifications_one_per_group_by_falling_confidence(result: Evaluation) -> None:
    mistakes = result.misclassifications["cells"]
    assert "platelet" in {mistake.label for mistake in mistakes}  # the cell that is none
    assert all(mistake.label != mistake.predicted for mistake in mistakes)
    assert len({mistake.group for mistake in mistakes}) == len(mistakes)
    assert [m.confidence for m in mistakes] == sorted((m.confidence for m in mistakes), reverse=True)


def test_evaluate_fields_with_boxes_scores_detector(result: Evaluation) -> None:
    score = result.detection["fields"]
    assert score.n_true == 3
    assert score.tp == 2
    assert score.mean_iou == pytest.approx(1.0)


def test_evaluate_super_resolution_has_rows_of_original_bicubic_and_generator(result: Evaluation) -> None:
    rows = {(row.side_px, row.method): row for row in result.super_resolution}
    assert list(rows) == [(128, "original"), *((n, w) for n in (24, 32, 48, 64) for w in ("bicubic", "generator"))]
    assert rows[128, "original"].ssim == pytest.approx(1.0)
    assert 15 < rows[24, "bicubic"].psnr_db < rows[32, "bicubic"].psnr_db < rows[64, "bicubic"].psnr_db < 45
    paired = rows[32, "generator"].vs_bicubic
    assert paired is not None
    assert paired.wins + paired.losses <= rows[32, "generator"].cells


def test_evaluate_ood_images_of_demo_are_background_and_smudges(result: Evaluation) -> None:
    """The demo's boxes name white cells alone, so there are no red ones to show, and two of three smudges at most."""
    kinds = {seen.kind: seen for seen in result.ood}
    assert list(kinds) == ["background", "smudges"]
    for seen in kinds.values():
        assert 1 <= seen.crops <= 3
        assert seen.review + seen.not_wbc + seen.counted == pytest.approx(1.0)
        assert seen.out_of_distribution <= seen.review


def test_evaluate_ood_crops_never_show_a_white_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """White cells are white and all else is black; red cells lie about them, farther than a crop reaches or not."""
    rng, fields, white_px = np.random.default_rng(3), [], 40
    for number in range(6):
        rgb = np.zeros((240, 320, 3), np.uint8)
        x, y = (int(rng.integers(0, end - white_px)) for end in (320, 240))
        rgb[y : y + white_px, x : x + white_px] = 255
        boxes = [LabelledBox(ObjectClass.NUCLEATED, Box(x, y, white_px, white_px))]
        boxes += [
            LabelledBox(ObjectClass.RED_CELL, Box(a, b, 20, 20)) for a in range(0, 300, 7) for b in range(0, 220, 7)
        ]
        path = tmp_path / f"{number}.png"
        Image.fromarray(rgb).save(path)
        fields.append(LabelledField(path, str(number), "drawn", tuple(boxes), ()))
    seen: list[Crop] = []
    monkeypatch.setattr("wbctool.evaluation.ood.predict", lambda crops, *_: seen.extend(crops) or [COUNTED])
    card = SimpleNamespace(crop_margin=1.25)
    models = SimpleNamespace(classifier=SimpleNamespace(card=card))
    reports = evaluate_ood(
        fields,
        (),
        (),
        models,  # type: ignore[arg-type]
        SuperResolve.AUTO,
        100_000,
        lambda items, *_: items,
        red_cells_per_field=10_000,
    )
    assert [(report.kind, report.crops > 100) for report in reports] == [("red cells", True), ("background", False)]
    assert max(crop.rgb.max() for crop in seen) == 0


def test_evaluate_ood_names_a_field_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    boxes = tuple(LabelledBox(kind, Box(0, 0, 20, 20)) for kind in (ObjectClass.NUCLEATED, ObjectClass.RED_CELL))
    models = SimpleNamespace(classifier=SimpleNamespace(card=SimpleNamespace(crop_margin=1.25)))
    for box in boxes:
        field = LabelledField(tmp_path / "bad.png", "g", "drawn", (box,), ())
        with pytest.raises(LabelledDataInvalid, match=r"bad\.png: "):
            evaluate_ood([field], (), (), models, SuperResolve.AUTO, 9, lambda items, *_: items)  # type: ignore[arg-type]


def test_evaluate_unknown_class_is_out_of_distribution(data: Path, models: Models) -> None:
    card = models.classifier.card
    seven = tuple(label for label in card.classes if label is not CellClass.PLATELET)
    short = SimpleNamespace(
        card=card.model_copy(update={"classes": seven, "familiarity": None}),
        run=lambda rgb, *_: (np.zeros((len(rgb), 7), np.float32),),
    )
    result = evaluate(data, replace(models, classifier=short, second=None), [], None, sr_cells=0)  # type: ignore[arg-type]
    assert [report.images for report in result.classifier] == [2]
    (platelet,) = (seen for seen in result.ood if seen.kind == "platelet, not trained")
    assert (platelet.crops, platelet.review) == (1, 1.0)


def test_evaluate_silent_errors_are_of_all_labeled_cells(result: Evaluation) -> None:
    (report,) = result.silent_errors
    assert (report.dataset, report.cells, report.accuracy.n) == ("cells", 3, round(3 * result.classifier[0].accuracy))
    assert report.silent_errors.n == sum(cell.is_silent_error for cell in result.cells)
    assert build_tables(result)[0].title.startswith("Silent errors")
    assert {percents.cells for percents in result.percent_errors} == {100, 200}
    assert [flags.white_cells for flags in result.blast_flags] == [sum(cell.is_white_cell for cell in result.cells)]
    assert "possible_blasts on simulated slides of 100 cells" in {table.title for table in build_tables(result)}


def test_evaluate_fields_with_labels_have_silent_errors(data: Path, models: Models) -> None:
    labels = {path.name: CellClass.NEUTROPHIL for path in DEMO[:3]}
    result = evaluate(data / "fields", models, [], None, sr_cells=0, ood_images=0, field_labels=labels)
    (report,) = result.silent_errors
    assert (report.dataset, report.cells, report.missed) == ("fields", 3, 1)  # the last one's box was moved away
    assert result.classifier == ()
    with pytest.raises(LabelledDataInvalid, match=r"no field of .*fields is named in the table of labels"):
        evaluate(data / "fields", models, [], None, field_labels={"other.jpg": CellClass.NEUTROPHIL})


def test_evaluate_unknown_kinds_and_red_cells_alone(tmp_path: Path, models: Models) -> None:
    for folder in ("lab/KSC", "red/images"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(DEMO[0], tmp_path / folder / "1.jpg")
    (tmp_path / "red" / "red_cells.csv").write_text("image,x,y\n1.jpg,5,5\n")
    result = evaluate(tmp_path, models, [], Split.TEST, sr_cells=0, ood_images=0)
    (kind,) = result.unknown_kinds
    assert (kind.dataset, kind.kind, kind.cells) == ("lab", "smudge", 1)
    assert kind.counted.n + kind.review + kind.not_wbc + kind.missed == 1
    (red_cells,) = result.red_cells
    assert (red_cells.fields, red_cells.found >= 1) == (1, True)
    write_evaluation(result, tmp_path / "out")
    assert "smudge" in (tmp_path / "out" / "evaluated_cells.csv").read_text()


def test_evaluate_data_set_that_no_model_was_trained_on_is_test_split_as_a_whole(
    tmp_path: Path, models: Models
) -> None:
    (tmp_path / "ours" / "monocyte").mkdir(parents=True)
    for path in DEMO[:3]:
        shutil.copy(path, tmp_path / "ours" / "monocyte" / f"cell-{path.name}")
    result = evaluate(tmp_path, models, [], Split.TEST, sr_cells=0, ood_images=0)
    assert (result.unseen_datasets, result.silent_errors[0].cells) == (("ours",), 3)
    with pytest.raises(LabelledDataInvalid, match="no labeled cells or fields in the split validation"):
        evaluate(tmp_path, models, [], Split.VALIDATION)


def test_write_evaluation_writes_json_markdown_and_figures(result: Evaluation, tmp_path: Path) -> None:
    write_evaluation(result, tmp_path / "out")
    text = (tmp_path / "out" / "evaluation.md").read_text()
    tables = build_tables(result)
    assert f"| {' | '.join(tables[0].rows[0])} |" in text
    assert tables[0].rows[0][:4] == ("cells", "all", "3", "3")
    assert {len(row) - len(table.columns) for table in tables for row in table.rows} == {0}
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert next(iter(written.items())) == ("schema", "wbctool-evaluation/2")
    assert written["classifier"][0]["images"] == 3
    assert written["silent_errors"][0]["silent_errors"]["total"] == 3
    assert "cells" not in written
    assert len((tmp_path / "out" / "evaluated_cells.csv").read_text().splitlines()) == 4
    assert (
        written["misclassifications"]["cells"][-1]["label"] != written["misclassifications"]["cells"][-1]["predicted"]
    )
    assert "rgb" not in written["misclassifications"]["cells"][-1]
    for name in ("confusion", "reliability", "coverage", "mistakes"):
        assert (tmp_path / "out" / f"{name}-cells.png").read_bytes().startswith(b"\x89PNG")


def test_write_evaluation_unwritable_figure_is_named_and_leaves_no_temporary_file(
    result: Evaluation, tmp_path: Path
) -> None:
    (tmp_path / "out" / "coverage-cells.png").mkdir(parents=True)
    with pytest.raises(OutputNotWritable, match=r"coverage-cells\.png cannot be written"):
        write_evaluation(result, tmp_path / "out")
    assert (tmp_path / "out" / "evaluation.md").read_text() == to_markdown(result)
    assert not list((tmp_path / "out").glob(".tmp-*"))


def test_write_evaluation_dataset_named_like_a_path_stays_in_folder(result: Evaluation, tmp_path: Path) -> None:
    """sources.csv may say anything."""
    odd = replace(result, classifier=(replace(result.classifier[0], dataset="../../away"),), misclassifications={})
    write_evaluation(odd, tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "confusion-.._.._away.png").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_evaluate_current_folder_has_its_name(data: Path, models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    assert evaluate(Path(), models, [], None, sr_cells=0, ood_images=0).data == data.name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("out", ["out", None])
def test_evaluate_command_full_standard_output_keeps_files(
    data: Path, result: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str | None
) -> None:
    """Where they go into files these are written first; where they do not, the exit code says that nobody was told."""
    monkeypatch.setattr("wbctool.evaluation.evaluate.evaluate", lambda *_, **__: result)
    monkeypatch.setattr("wbctool.inference.loading.load_generators", lambda _: [])
    folder = out and tmp_path / out
    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        call = partial(
            evaluate_models,
            data,
            None,
            folder,
            SplitChoice.ALL,
            SuperResolve.AUTO,
            Precision.FP32,
            sr_cells=0,
            labels=None,
            readers=Readers.BOTH,
        )
        if folder:
            call(ood_images=0)
            assert (folder / "evaluation.md").is_file()
        else:
            with pytest.raises(OutputNotWritable, match="standard output"):
                call(ood_images=0)


def test_evaluate_split_measures_only_its_groups(data: Path, models: Models) -> None:
    test_split = evaluate(data, models, [], Split.TEST, sr_cells=0)
    assert test_split.classifier[0].images == 3  # the demo's fields are held back, whatever folder they lie in
    with pytest.raises(LabelledDataInvalid, match="validation"):
        evaluate(data, models, [], Split.VALIDATION)


def test_evaluate_one_reader_alone(tmp_path: Path, models: Models) -> None:
    (tmp_path / "NEUTROPHIL").mkdir()
    shutil.copy(DEMO[0], tmp_path / "NEUTROPHIL")
    assert models.second is not None
    models_of = {
        Readers.BOTH: models,
        Readers.VGG19: replace(models, second=None),
        Readers.COMPACT: replace(models, classifier=models.second, second=None),
    }
    probabilities = {}
    for readers, alone in models_of.items():
        result = evaluate(tmp_path, alone, [], None, sr_cells=0, ood_images=0)
        assert result.readers is readers
        assert f"readers: {readers}," in to_markdown(result)
        probabilities[readers] = result.cells[0].prediction.probabilities[0]
    mean = (probabilities[Readers.VGG19] + probabilities[Readers.COMPACT]) / 2
    assert probabilities[Readers.BOTH] == pytest.approx(mean, abs=1e-6)
    assert probabilities[Readers.VGG19] != probabilities[Readers.COMPACT]


def test_evaluate_folder_without_labels_raises(tmp_path: Path, models: Models) -> None:
    with pytest.raises(LabelledDataInvalid, match="no labeled cells or fields"):
        evaluate(tmp_path, models, [], None)


@pytest.mark.parametrize("lacks", ["the extra", "a folder"])
def test_evaluate_command_checks_libraries_and_folder_before_the_work(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before minutes of work, not after them."""
    monkeypatch.setattr("wbctool.load_models", lambda *_: pytest.fail("it began"))
    if lacks == "the extra":
        monkeypatch.setitem(sys.modules, "skimage", None)
    (tmp_path / "file").touch()
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path), "--out", str(tmp_path / "file" / "out")])
    assert done.exit_code == 1
    message = "`wbctool evaluate` needs skimage: pip install" if lacks == "the extra" else "out cannot be written: "
    assert message in done.output

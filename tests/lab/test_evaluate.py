"""`wbctool evaluate` on real fields with the shipped models."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from wbctool.cards import default_models_dir
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.evaluate import Evaluation, evaluate, write_evaluation
from wbctool.lab.labelled import Split
from wbctool.onnx_model import Models, load_models
from wbctool.settings import Device, Precision
from wbctool.stages.detect import detect_cells
from wbctool.stages.images import read_field

pytest.importorskip("sklearn")
DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models(default_models_dir(), Device.CPU, Precision.FP32)


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


def test_a_wrong_label_lowers_the_accuracy_and_stands_in_the_confusion(result: Evaluation) -> None:
    (report,) = result.classifier
    platelets = report.classes.index("platelet")
    assert report.images == 3
    assert report.per_class["platelet"]["support"] == 1
    assert report.per_class["platelet"]["recall"] == 0.0
    assert sum(report.confusion[platelets]) == 1
    assert report.accuracy <= 2 / 3


def test_detection_is_measured_where_there_are_boxes(result: Evaluation) -> None:
    score = result.detection["fields"]
    assert score.annotated == 3
    assert score.matched == 2
    assert score.mean_iou == pytest.approx(1.0)


def test_super_resolution_is_set_beside_bicubic_and_the_original(result: Evaluation) -> None:
    rows = {row.way: row for row in result.super_resolution}
    assert list(rows) == ["original", "bicubic", "generator"]
    assert rows["original"].ssim == pytest.approx(1.0)
    assert 15 < rows["bicubic"].psnr_db < 45


def test_results_and_figures_are_written(result: Evaluation, tmp_path: Path) -> None:
    write_evaluation(result, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["classifier"][0]["images"] == 3
    for name in ("confusion", "reliability", "coverage"):
        assert (tmp_path / "out" / f"{name}-cells.png").read_bytes().startswith(b"\x89PNG")


def test_only_sources_of_the_split_are_measured(data: Path, models: Models) -> None:
    held_back = evaluate(data, models, [], Split.HELD_BACK, sr_cells=0)
    assert held_back.classifier[0].images == 3  # the demo's fields are held back, whatever folder they lie in
    with pytest.raises(LabelledDataInvalid, match="validation"):
        evaluate(data, models, [], Split.VALIDATION)


def test_a_folder_without_labels_is_refused(tmp_path: Path, models: Models) -> None:
    with pytest.raises(LabelledDataInvalid, match="no labelled cell or field"):
        evaluate(tmp_path, models, [], None)

"""Copies in int8 and fp16: the search for one that keeps the limits, what its card says, and how it is written."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import fakes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_models import write_tiny_models
from typer.testing import CliRunner

from wbctool.cli.app import app
from wbctool.cli.models_optimize import optimize_models
from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.labelled import GroupSplit, LabelledImage, Split
from wbctool.enums import Device, Precision
from wbctool.errors import LabelledDataInvalid, QuantizationRejected
from wbctool.evaluation.classification import LabelledCrop, crop_labelled_cells
from wbctool.hardware import has_vnni
from wbctool.imaging.crop import hash_crop
from wbctool.inference.adaptation_info import AdaptationInfo
from wbctool.inference.classifier_head import read_last_layer
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card, read_card
from wbctool.inference.model_folder import check_models
from wbctool.inference.quantization_info import QuantizationInfo
from wbctool.labels import CellClass
from wbctool.quantization.calibration_data import (
    BUNDLED_DIR,
    TABLE_FILE,
    CalibrationData,
    flip_augment,
    load_bundled_cells,
    load_labelled_cells,
    tile_images,
    untile_images,
)
from wbctool.quantization.fp16 import convert_to_fp16
from wbctool.quantization.int8 import calibrate_ranges, quantize
from wbctool.quantization.measure import QuantizationTolerance, psnr_db, violated_tolerance
from wbctool.quantization.optimize import downscaled_inputs, optimize_classifier

pytestmark = pytest.mark.slow  # it works with the shipped models

NOTHING = QuantizationTolerance(max_changed_labels=-1.0)  # not even no change at all


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wbctool.inference.loading.cuda_unavailable_reason", lambda *_: "none in this test")


FOUR_CELLS_S = 4.0  # as many are timed at once


def optimize(folder: Path, int8_s: float = 0.5) -> int:
    """Do as ``wbctool models optimize`` where a cell takes 1 s in fp32, however fast this machine is."""
    clock = fakes.make_comparison_clock(1.0 * FOUR_CELLS_S, int8_s * FOUR_CELLS_S)
    return optimize_models(folder, None, None, Precision.INT8, clock)


def plain(items, _total, _what):  # type: ignore[no-untyped-def]
    return items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tiny models; generator and both readers have convolutions."""
    folder = write_tiny_models(tmp_path / "models")
    rng = np.random.default_rng(8)
    floats = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
    ]
    classify = [
        *floats,
        helper.make_node("Conv", ["nchw", "w1"], ["c1"], name="first", strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", strides=[4, 4]),
        helper.make_node("ReduceMean", ["c2", "axes"], ["logits"], keepdims=0),
    ]
    weights = {
        "w1": rng.normal(0, 0.01, (8, 3, 4, 4)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (len(CellClass), 8, 4, 4)).astype(np.float32),
        "b2": np.arange(len(CellClass), dtype=np.float32) * 20,  # no label hangs by a hair
        "axes": np.array([2, 3], np.int64),
    }
    replace_model(folder, "classifier", classify, weights, "logits", TensorProto.FLOAT)
    classify[3] = helper.make_node("Clip", ["c1", "zero", "six"], ["r1"])  # ReLU6
    weights |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    replace_model(folder, "compact", classify, weights, "logits", TensorProto.FLOAT)
    same = np.zeros((3, 3, 3, 3), np.float32)
    same[np.arange(3), np.arange(3), 1, 1] = 0.999
    enlarge = [
        *floats,
        helper.make_node("Conv", ["nchw", "same"], ["c1"], name="same", pads=[1, 1, 1, 1]),
        helper.make_node("Resize", ["c1", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Transpose", ["large"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["nhwc"], ["sr"], to=TensorProto.UINT8),
    ]
    constants = {"same": same, "scales": np.array([1, 1, 4, 4], np.float32)}
    replace_model(folder, "generator", enlarge, constants, "sr", TensorProto.UINT8)
    return folder


def replace_model(
    folder: Path, name: str, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], output: str, kind: int
) -> None:
    rgb = helper.make_tensor_value_info("rgb", TensorProto.UINT8, ["n", "h", "w", 3])
    result = helper.make_tensor_value_info(output, kind, None)
    held = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [rgb], [result], held)
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    (folder / f"{name}.onnx").write_bytes(content)
    card = read_card(folder / f"{name}.json").model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    (folder / f"{name}.json").write_text(card.model_dump_json())


@pytest.fixture
def models(folder: Path) -> Models:
    return load_models(folder, Device.CPU, Precision.FP32)


def few_cells(labels: tuple[CellClass, ...] | None = None) -> CalibrationData:
    cells = load_bundled_cells()
    return CalibrationData(cells.calibration_crops[:6], cells.validation_crops[:8], labels, "six", "eight")


def change(**facts: object) -> QuantizationInfo:
    told = {"source_sha256": "0" * 64, "calibrated_on": "", "measured_on": "", "cells": 200, "images": 200}
    return QuantizationInfo.model_validate({**told, "changed_labels": 0, "changed_outcomes": 0, **facts})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"changed_labels": 2, "accuracy_fp32": 0.9, "accuracy_quantized": 0.8975, "psnr_db": 42.0}, None),
        ({"changed_labels": 3}, "3 of 200 labels change, at most 1.0% allowed"),
        ({"accuracy_fp32": 0.9, "accuracy_quantized": 0.895}, "accuracy falls by 0.50 points, at most 0.3 allowed"),
        ({"accuracy_fp32": 0.9, "accuracy_quantized": 0.95}, None),
        ({"psnr_db": 41.9}, "its images are 41.9 dB from the fp32 ones, at least 42 required"),
    ],
)
def test_violated_tolerance_describes_the_exceeded_limit(facts: dict[str, object], message: str | None) -> None:
    assert violated_tolerance(change(**facts), QuantizationTolerance()) == message


def test_psnr_db_pools_all_images() -> None:
    black, gray = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)  # a fifth of 255
    assert psnr_db([black], [gray]) == pytest.approx(20 * np.log10(5))
    assert psnr_db([black, black], [gray, black]) == pytest.approx(20 * np.log10(5) + 10 * np.log10(2))
    assert psnr_db([black], [black]) == 100.0


def test_optimize_classifier_card_has_what_was_measured(folder: Path, models: Models) -> None:
    indices = models.classifier.run(few_cells().validation_crops)[0].argmax(axis=1)
    labels = tuple(models.classifier.card.classes[index] for index in indices)
    wrong = (*labels[:-2], *(next(c for c in CellClass if c is not label) for label in labels[-2:]))
    made = optimize_classifier(models.classifier, folder, few_cells(wrong), plain, Precision.INT8)
    copy = made.card.quantized_from
    assert copy is not None
    assert (copy.cells, copy.images) == (8, 32)  # each also turned
    assert made.card.precision is Precision.INT8
    assert made.card.sha256 == hashlib.sha256(made.content).hexdigest()
    assert copy.source_sha256 == models.classifier.card.sha256
    assert made.card.classes == models.classifier.card.classes
    assert 0.5 < copy.accuracy_fp32 <= 1.0
    assert copy.fp32_layers == ()


def test_optimize_classifier_keeps_most_sensitive_layer_in_fp32_first(
    folder: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[str, ...]] = []
    calibrated = []

    def remembered(ready, kept):  # type: ignore[no-untyped-def]
        calibrated.append(ready)
        tried.append(tuple(kept))
        return quantize(ready, kept)

    monkeypatch.setattr("wbctool.quantization.measure.quantize", remembered)
    with pytest.raises(QuantizationRejected, match=r"classifier\.onnx: with 1 layer in fp32, .* labels change"):
        optimize_classifier(models.classifier, folder, few_cells(), plain, Precision.INT8, NOTHING)
    assert tried[:3] == [(), ("second",), ("first",)]  # all in int8, then one layer alone at a time
    probes = few_cells().calibration_crops[[0, 1, 3, 4]]
    expected = models.classifier.run(probes)[0]

    def lost(kept: tuple[str, ...]) -> float:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1" if not has_vnni() else "0")
        session = ort.InferenceSession(quantize(calibrated[0], kept), options, ["CPUExecutionProvider"])
        return float(((session.run(None, {"rgb": probes})[0] - expected) ** 2).mean())

    assert tried[3] == (("first",) if lost(("second",)) > lost(("first",)) else ("second",))


def test_optimize_models_writes_copies_that_load_models_takes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize(folder) == 0
    output = capsys.readouterr().out
    assert "classifier: calibrated on 32 training cells shipped with wbctool" in output
    assert "measured on 64 of 64 training cells" in output
    assert [problem for _, problem in check_models(folder) if problem] == []
    loaded = load_models(folder, Device.CPU, Precision.AUTO)
    assert [card.precision for card in loaded.cards] == ["fp32", "int8", "int8", "int8"]
    assert read_card(folder / "generator.int8.json").quantized_from.psnr_db >= QuantizationTolerance().min_psnr_db
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert optimize(folder) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_optimize_models_into_an_earlier_folder_replaces_its_models(folder: Path, tmp_path: Path) -> None:
    """Beside an earlier fp32 model the new copy would be passed over as stale."""
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    card = json.loads((out / "classifier.json").read_text())
    (out / "classifier.json").write_text(json.dumps(card | {"version": "0.0.9"}))
    clock = fakes.make_comparison_clock(2.0, 1.0)
    assert optimize_models(folder, None, out, Precision.INT8, clock) == 0
    assert read_card(out / "classifier.json") == read_card(folder / "classifier.json")


def test_optimize_models_into_a_new_folder_without_a_copy_writes_the_models(folder: Path, tmp_path: Path) -> None:
    slower = fakes.make_comparison_clock(1.0, 2.0)
    assert optimize_models(folder, None, tmp_path / "new", Precision.INT8, slower) == 0
    assert read_card(tmp_path / "new" / "classifier.json") == read_card(folder / "classifier.json")


def test_optimize_models_of_one_reader(folder: Path) -> None:
    for path in folder.glob("compact.*"):
        path.unlink()
    assert optimize(folder) == 0
    assert (folder / "classifier.int8.json").is_file()


@pytest.mark.usefixtures("no_gpu")
def test_optimize_command_fp16_copies_are_loaded_on_cpu_only_on_demand(folder: Path) -> None:
    done = CliRunner().invoke(app, ["models", "optimize", "--precision", "fp16", "--models", str(folder)])
    assert done.exit_code == 0, done.output
    assert "classifier: 2 of 2 convolutions in fp16" in done.output
    assert "on one core in fp32" in done.output
    assert [problem for _, problem in check_models(folder) if problem] == []
    card = read_card(folder / "classifier.fp16.json")
    assert card.precision is Precision.FP16
    assert card.quantized_from.changed_labels == 0
    assert card.quantized_from.calibrated_on == ""
    assert load_models(folder, Device.CPU, Precision.AUTO).classifier.precision is Precision.FP32
    told = load_models(folder, Device.CPU, Precision.FP16)
    assert [card.precision for card in told.cards] == ["fp32", "fp16", "fp16", "fp16"]
    cells = few_cells().validation_crops
    plain_logits = load_models(folder, Device.CPU, Precision.FP32).classifier.run(cells)[0]
    logits = told.classifier.run(cells)[0]
    assert logits.dtype == np.float32
    assert 0 < np.abs(logits - plain_logits).max() < 0.01 * np.abs(plain_logits).max()


def test_optimize_classifier_fp16_with_too_much_change_raises(folder: Path, models: Models) -> None:
    with pytest.raises(QuantizationRejected, match=r"classifier\.onnx: in fp16, 0 of 32 labels change"):
        optimize_classifier(models.classifier, folder, few_cells(), plain, Precision.FP16, NOTHING)


def test_optimize_models_slower_copy_is_not_written_and_older_is_deleted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert optimize(folder) == 0
    assert len(list(folder.iterdir())) == len(before) + 6
    assert optimize(folder, int8_s=1.1) == 0
    output = capsys.readouterr().out
    assert "1000.0 ms a cell on one core in fp32, 1100.0 ms in int8" in output
    assert "generator: no faster in int8 here, so no copy is kept; it stays in fp32" in output
    assert sorted(path.name for path in folder.iterdir()) == before


def test_optimize_models_reader_that_changes_too_much_stays_in_fp32(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classify = [
        helper.make_node("Cast", ["rgb"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w", "b"], ["c"], name="only", strides=[4, 4]),
        helper.make_node("ReduceMean", ["c", "axes"], ["logits"], keepdims=0),
    ]
    bias = np.arange(len(CellClass), dtype=np.float32) * 20
    bias[0] = -1e6  # 255 steps down to it cannot tell the others apart
    weights = {"w": np.full((len(CellClass), 3, 4, 4), 1e-4, np.float32), "b": bias, "axes": np.array([2, 3])}
    replace_model(folder, "compact", classify, weights, "logits", TensorProto.FLOAT)
    assert optimize(folder) == 1
    message = "compact.onnx: with 0 layers in fp32, 256 of 256 labels change, at most 1.0% allowed"
    assert f"{message}; no int8 copy is written; it stays in fp32" in capsys.readouterr().err
    loaded = load_models(folder, Device.CPU, Precision.AUTO)
    assert [card.precision for card in loaded.cards] == ["fp32", "int8", "int8", "fp32"]


@pytest.mark.usefixtures("no_gpu")
def test_optimize_models_fp16_copy_slower_on_cpu_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimize_models(folder, None, None, Precision.FP16, fakes.make_comparison_clock(1.0, 1.1)) == 0
    assert capsys.readouterr().out.count(" written") == 3


@pytest.mark.usefixtures("no_gpu")
def test_optimize_command_out_writes_copies_to_another_folder(folder: Path, tmp_path: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    options = ["--precision", "fp16", "--models", str(folder), "--out", str(tmp_path / "copies")]
    done = CliRunner().invoke(app, ["models", "optimize", *options])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in folder.iterdir()) == before
    copies = {f"{model}.fp16.{end}" for model in ("classifier", "compact", "generator") for end in ("json", "onnx")}
    plain = {
        f"{model}.{end}" for model in ("classifier", "compact", "detector", "generator") for end in ("json", "onnx")
    }
    assert {path.name for path in (tmp_path / "copies").iterdir()} == copies | plain
    models = load_models(tmp_path / "copies", Device.CPU, Precision.FP16)  # as `wbctool run --models` takes them
    assert (models.classifier.precision, models.generator.precision) == (Precision.FP16, Precision.FP16)


def test_optimize_command_model_without_convolutions_is_rejected(tmp_path: Path) -> None:
    folder = write_tiny_models(tmp_path / "models")  # without convolutions
    before = sorted(path.name for path in folder.iterdir())
    done = CliRunner().invoke(app, ["models", "optimize", "--models", str(folder)])
    assert done.exit_code == 1
    for model in ("classifier", "compact", "generator"):
        message = f"{model}.onnx has no convolutions to compute in int8; no copy is written; it stays in fp32"
        assert message in done.output
    assert sorted(path.name for path in folder.iterdir()) == before


def test_optimize_command_without_onnx_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    done = CliRunner().invoke(app, ["models", "optimize", "--models", str(folder)])
    assert done.exit_code == 1
    assert "wbctool models optimize needs onnx: pip install 'wbctool[optimize]'" in done.output


def in_int8(content: bytes) -> bytes:
    return quantize(calibrate_ranges(content, [load_bundled_cells().calibration_crops[:4]]), ())


@pytest.mark.parametrize("make", [in_int8, convert_to_fp16])
def test_quantized_shipped_classifier_keeps_outputs_and_last_layer(make: Callable[[bytes], bytes]) -> None:
    folder = default_models_dir()
    card = load_fp32_card(folder, ClassifierCard)
    content = (folder / card.file).read_bytes()
    copy = make(content)
    names, of_copy = ([o.name for o in onnx.load_from_string(model).graph.output] for model in (content, copy))
    assert of_copy == names
    layer, copied = read_last_layer(content), read_last_layer(copy)
    np.testing.assert_allclose(layer.weight, copied.weight, atol=1e-4)  # fp16 rounds the biases too
    np.testing.assert_allclose(layer.bias, copied.bias, atol=1e-4)
    assert len(copy) < 1.01 * len(content)


def test_bundled_cells_are_of_training_groups_one_each() -> None:
    with (BUNDLED_DIR / TABLE_FILE).open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    images = [LabelledImage(Path(r["image"]), CellClass.NEUTROPHIL, r["source"], r["origin"]) for r in rows]
    assert {GroupSplit().assign(image) for image in images} == {Split.TRAIN}
    assert len({image.group for image in images}) == len(images) == 96
    assert {row["label"] for row in rows} >= {str(c) for c in CellClass}
    assert sum(path.stat().st_size for path in BUNDLED_DIR.iterdir()) < 700_000


def test_load_bundled_cells_no_cell_both_calibrates_and_measures() -> None:
    cells = load_bundled_cells()
    assert (cells.calibration_crops.shape, cells.validation_crops.shape) == ((32, 128, 128, 3), (64, 128, 128, 3))
    assert len({cell.tobytes() for cell in (*cells.calibration_crops, *cells.validation_crops)}) == 96
    assert cells.labels is None


def test_untile_images_returns_tiled_cells() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (13, 128, 128, 3), dtype=np.uint8)
    sheet = tile_images(cells)
    assert sheet.shape == (256, 12 * 128, 3)
    np.testing.assert_array_equal(sheet[:128, 128:256], cells[1])
    np.testing.assert_array_equal(untile_images(sheet, 13), cells)


def test_flip_augment_adds_flipped_cells() -> None:
    cell = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1).repeat(3, axis=3)
    assert [one[:, :, 0].tolist() for one in flip_augment(cell)] == [
        [[0, 1], [2, 3]],
        [[1, 0], [3, 2]],
        [[2, 3], [0, 1]],
        [[3, 2], [1, 0]],
    ]


def test_downscaled_inputs_have_sides_of_the_card(models: Models) -> None:
    small = downscaled_inputs(np.zeros((5, 128, 128, 3), np.uint8), models.generator.card)
    assert [one.shape[0] for one in small] == [32, 40, 48, 64, 32]


def draw_cells(data: Path) -> None:
    rng = np.random.default_rng(2)
    for number in range(60):
        folder = data / ("MONOCYTE" if number % 3 else "LYMPHOCYTE")
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number:02}.png"), rng.integers(150, 256, (96, 96, 3), dtype=np.uint8))


def test_load_labelled_cells_calibrates_and_measures_by_split(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_cells(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")  # given as ".", it has a name still
    images = read_class_folders(Path())
    split = [GroupSplit().assign(image) for image in images]
    cells = load_labelled_cells(Path(), models, plain, min_validation_cells=2)
    assert cells.labels == tuple(i.label for i, s in zip(images, split, strict=True) if s is Split.VALIDATION)
    assert len(cells.validation_crops) == len(cells.labels) >= 2
    assert len(cells.calibration_crops) == split.count(Split.TRAIN)
    assert cells.calibrated_on == f"{len(cells.calibration_crops)} cells of data, training groups"
    assert len({cell.tobytes() for cell in (*cells.calibration_crops, *cells.validation_crops)}) == len(
        cells.calibration_crops
    ) + len(cells.validation_crops)


def test_load_labelled_cells_too_few_raises(tmp_path: Path, models: Models) -> None:
    (tmp_path / "data" / "NEUTROPHIL").mkdir(parents=True)
    with pytest.raises(LabelledDataInvalid, match="50 are needed to measure on"):
        load_labelled_cells(tmp_path / "data", models, plain)


def test_load_labelled_cells_leaves_out_what_adapted_models_have_learned(tmp_path: Path, models: Models) -> None:
    draw_cells(tmp_path)
    cells = {
        split: crop_labelled_cells(
            [i for i in read_class_folders(tmp_path) if GroupSplit().assign(i) is split], models, plain, "cells"
        )
        for split in (Split.TRAIN, Split.VALIDATION)
    }
    plain_card = models.classifier.card

    def teach(*learned: LabelledCrop) -> None:
        info = AdaptationInfo(
            laboratory="own", parent_sha256="0" * 64, readers=(), cells_by_label={}, groups=1,
            cell_sha256=tuple(hash_crop(cell.crop) for cell in learned), accuracy_before=0, accuracy_after=0,
            silent_errors_before=0, silent_errors_after=0, coverage_before=0, coverage_after=0,
        )  # fmt: skip
        models.classifier.card = plain_card.model_copy(update={"adaptation": info})

    train, validation = cells[Split.TRAIN], cells[Split.VALIDATION]
    teach(train[0], validation[0])
    left = load_labelled_cells(tmp_path, models, plain, min_validation_cells=2)
    assert left.labels == tuple(cell.image.label for cell in validation[1:])
    assert len(left.validation_crops) == len(left.labels)
    assert left.calibrated_on.startswith(f"{len(train) - 1} cells of")
    teach(*train)
    with pytest.raises(LabelledDataInvalid, match=f"0 labeled cells of training groups.*{len(train)} cells left out"):
        load_labelled_cells(tmp_path, models, plain, min_validation_cells=2)
    teach(validation[0])
    with pytest.raises(LabelledDataInvalid, match="1 cell left out, which the models have learned from"):
        load_labelled_cells(tmp_path, models, plain, min_validation_cells=len(validation))

"""`wbctool verify`: figures on made-up readings, the command on tiny models."""

import json
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import fakes
import pytest
from tiny_models import write_tiny_models
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.labelled import GroupSplit, LabelledImage, Split
from wbctool.datasets.manual_differentials import ManualDifferential
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.errors import LabelledDataInvalid, MissingDependency
from wbctool.inference.loading import load_models
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.settings import RunSettings
from wbctool.stages.differential import count_cells
from wbctool.types.cells import Prediction, Reason
from wbctool.types.differential import Differential, Flag
from wbctool.types.slides import Familiarity
from wbctool.verification import cells
from wbctool.verification.cells import _NO_GROUPS, CellVerification, compare_cells, verify_cells
from wbctool.verification.criteria import Conclusion
from wbctool.verification.report import render_verification
from wbctool.verification.slides import _review_proportion, compare_slides

pytestmark = pytest.mark.slow  # it works with the shipped models

pytest.importorskip("sklearn")
LABELS = ("neutrophil", "lymphocyte", "monocyte", "eosinophil")


def compare(pairs: Sequence[tuple[str, str]], of_each: int = 1) -> CellVerification:
    """pairs: (the reader's class, a name of fakes.COLORS). of_each: cells of one group."""
    images = [
        LabelledImage(Path(f"{i}.png"), CellClass(y_true), str(i // of_each), "lab")
        for i, (y_true, _) in enumerate(pairs)
    ]
    return compare_cells(images, [fakes.predict(y_pred) for _, y_pred in pairs], tuple(CellClass), [True] * len(pairs))


def right(number: int) -> list[tuple[str, str]]:
    return [(LABELS[i % 4], LABELS[i % 4]) for i in range(number)]


def test_compare_cells_all_correct_fits() -> None:
    found = compare(right(200))
    assert found.verdict.conclusion is Conclusion.FITS
    assert found.verdict.summary == "The models fit this laboratory: all 4 criteria are met."
    assert (found.agreement.n, found.agreement.total, found.auto_classified.percent) == (200, 200, 100.0)
    assert found.kappa is not None
    assert found.kappa.value == 1.0
    assert found.confusion[0] == [50, 0, 0, 0, 0, 0, 0, 0]
    assert found.notes == (
        _NO_GROUPS,
        "classes with fewer than 10 cells, which are not judged: "
        "basophil, immature granulocyte, erythroblast, platelet",
    )


def test_compare_cells_often_wrong_does_not_fit() -> None:
    found = compare([*right(120), *[("lymphocyte", "monocyte")] * 40])
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT
    assert "cells classified as the reader did 75.0 % (required: at least 86 %)" in found.verdict.reason
    assert found.accuracy_auto is not None
    assert found.accuracy_auto.percent == 75.0


def test_review_proportion_is_the_share_that_raises_the_flag() -> None:
    names = ["neutrophil"] * 100 + ["review"] * 20 + ["platelet"] * 100
    differential = count_cells([fakes.predict(name) for name in names], tuple(CellClass), Limits())
    assert Flag.HIGH_REVIEW_SHARE in differential.flags
    proportion = _review_proportion(["s"], {"s": differential})
    assert proportion is not None
    assert proportion.percent == pytest.approx(100 * 20 / 120)


def test_compare_cells_missed_class_does_not_fit() -> None:
    found = compare([*right(380), *[("basophil", "neutrophil")] * 12])
    assert found.agreement.percent > 96
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT
    assert "basophil cells found 0.0 % (required: at least 86 %)" in found.verdict.reason


def test_compare_cells_within_the_interval_is_not_shown() -> None:
    found = compare([*right(96), *[("lymphocyte", "neutrophil")] * 4])
    assert found.verdict.conclusion is Conclusion.NOT_SHOWN
    assert found.verdict.reason.startswith(
        "correct among the cells not left to a reader 96.0 % (required: at least 97 %)"
    )


def test_compare_cells_left_to_a_reader_are_counted() -> None:
    found = compare([*right(150), *[("monocyte", "review")] * 40, *[("monocyte", "odd")] * 30])
    assert (found.auto_classified.n, found.auto_classified.total) == (150, 220)
    assert found.accuracy_auto is not None
    assert found.accuracy_auto.percent == 100.0
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT
    assert "cells left to a reader 31.8 % (required: at most 10 %)" in found.verdict.reason
    assert "cells unlike anything the models know 13.6 % (required: at most 5 %)" in found.verdict.reason


@pytest.mark.parametrize(
    ("cells", "of_each", "reason"),
    [(99, 1, "99 cells; 100 needed"), (190, 10, "the cells are from 19 groups; 20 needed")],
)
def test_compare_cells_too_few_have_no_verdict(cells: int, of_each: int, reason: str) -> None:
    found = compare(right(cells), of_each)
    assert found.verdict.conclusion is Conclusion.NO_VERDICT
    assert found.verdict.summary == f"No verdict: {reason}."


def differential(names: Sequence[str]) -> Differential:
    return count_cells([fakes.predict(name) for name in names], tuple(CellClass), Limits())


def read(slide: str, neutrophils: float, counted: int = 100) -> ManualDifferential:
    percents = {CellClass.NEUTROPHIL: neutrophils, CellClass.LYMPHOCYTE: 100 - neutrophils, CellClass.BASOPHIL: 0.0}
    return ManualDifferential(slide, percents, counted)


def test_compare_slides_within_sampling_error_fit() -> None:
    tool = {f"s{i}": differential(["neutrophil"] * (60 + i % 3) + ["lymphocyte"] * (40 - i % 3)) for i in range(24)}
    found = compare_slides({slide: read(slide, 58) for slide in tool}, tool)
    assert found.verdict.conclusion is Conclusion.FITS
    assert found.within_sampling_error is not None
    assert (found.within_sampling_error.n, found.within_sampling_error.total) == (
        48,
        48,
    )  # not the basophils, of which both found none
    bias = {one.label: one.bias for one in found.bland_altman}
    assert bias == pytest.approx({"neutrophil": 3.0, "lymphocyte": -3.0, "basophil": 0.0})


def test_compare_slides_that_differ_do_not_fit() -> None:
    tool = {f"s{i}": differential(["neutrophil"] * 80 + ["lymphocyte"] * 20) for i in range(20)}
    found = compare_slides({slide: read(slide, 50) for slide in tool}, tool)
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT


def test_compare_slides_class_missed_on_all_does_not_fit() -> None:
    """Each slide's difference may be sampling (Fisher's p is 0.06 of 0 against 5 of 100), but not all of them."""
    tool = {f"s{i}": differential(["neutrophil"] * 65 + ["lymphocyte"] * 35) for i in range(20)}
    percents = {CellClass.NEUTROPHIL: 62.0, CellClass.LYMPHOCYTE: 33.0, CellClass.EOSINOPHIL: 5.0}
    found = compare_slides({slide: ManualDifferential(slide, percents, 100) for slide in tool}, tool)
    assert found.within_sampling_error is not None
    assert found.within_sampling_error.percent == 100.0
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT
    assert found.verdict.reason == (
        "eosinophil: mean difference of the percentages 5.0 points (required: at most 3.2 points)"
    )


def test_compare_slides_left_to_a_reader_do_not_fit() -> None:
    tool = {f"s{i}": differential(["neutrophil"] * 60 + ["lymphocyte"] * 40 + ["review"] * 60) for i in range(20)}
    found = compare_slides({slide: read(slide, 60) for slide in tool}, tool)
    assert found.verdict.conclusion is Conclusion.DOES_NOT_FIT
    assert found.verdict.reason == "cells left to a reader 37.5 % (required: at most 10 %)"


def test_compare_slides_few_cells_of_reader_have_no_verdict() -> None:
    tool = {f"s{i}": differential(["neutrophil"] * 20 + ["lymphocyte"] * 80) for i in range(20)}
    found = compare_slides({slide: read(slide, 60, counted=5) for slide in tool}, tool)
    assert found.verdict.conclusion is Conclusion.NO_VERDICT


def test_compare_slides_with_few_cells_are_drawn_but_not_judged() -> None:
    tool = {"a": differential(["neutrophil"] * 8), "b": differential(["neutrophil"] * 100), "c": differential([])}
    found = compare_slides({slide: read(slide, 90) for slide in ("a", "b", "c", "d")}, tool)
    assert (found.slides, found.complete_slides) == (2, 1)
    assert found.verdict.summary == "No verdict: 1 slide with 100 counted cells; 20 needed."
    assert found.notes == (
        "d is left out: no such slide, or it failed",
        "c is left out: no cell was counted",
        "not in the verdict: 1 slide with fewer than 100 cells counted by the tool or the reader",
    )


def test_compare_slides_without_common_slide_raises() -> None:
    with pytest.raises(LabelledDataInvalid, match=r"no slide is left .* x is left out: no such slide"):
        compare_slides({"x": read("x", 50)}, {"y": differential(["neutrophil"])})


def test_render_verification_has_verdict_and_escapes_names() -> None:
    files = render_verification("<b>lab", compare(right(200)), fakes.provenance().models, "auto")
    assert sorted(files) == ["calibration.png", "confusion.png", "verification.html", "verification.json"]
    page = files["verification.html"].decode()
    assert "some are counted as other classes, so neither can be excluded" in page
    assert "The models fit this laboratory" in page
    assert "<b>lab" not in page
    assert "ab" * 32 in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    written = json.loads(files["verification.json"])
    assert (written["verdict"]["conclusion"], written["agreement"]["n"], written["data"]) == ("fits", 200, "<b>lab")
    assert [criterion["met"] for criterion in written["verdict"]["criteria"]] == [True] * 4
    assert files == render_verification("<b>lab", compare(right(200)), fakes.provenance().models, "auto")


@pytest.mark.parametrize(("cells", "of_each"), [(40, 1), (40, 40)])  # of many groups, and of one
def test_render_verification_without_calibration_gives_the_reason(cells: int, of_each: int) -> None:
    found = compare(right(cells), of_each)
    assert found.calibration is None
    files = render_verification("lab", found, fakes.provenance().models, "auto")
    assert "calibration.png" not in files
    page = files["verification.html"].decode()
    assert "at least 30 cells in each half of the groups" in page
    assert "one group" not in page


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    pytest.importorskip("onnx")
    return write_tiny_models(tmp_path / "models")


def verify(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["verify", *map(str, args)])
    return done.exit_code, done.stdout, done.stderr


def draw_cells(folder: Path, number: int = 3) -> Path:
    for label in ("neutrophil", "eosinophil"):
        for i in range(number):
            fakes.draw_field(folder / label / f"{i}.png", [label] * (i + 1))
    return folder


def test_verify_command_on_cells_writes_result(tmp_path: Path, models_dir: Path) -> None:
    code, stdout, _ = verify(draw_cells(tmp_path / "lab"), "--out", tmp_path / "out", "--models", models_dir)
    assert code == 3
    assert "6 cells of 6 groups" in stdout
    assert stdout.splitlines()[-1] == "No verdict: 6 cells; 100 needed."
    assert (tmp_path / "out" / "verification.html").is_file()


def test_verify_command_on_slides_writes_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wbctool.cli.verify.load_stages", fakes.fake_stages)
    fakes.draw_field(tmp_path / "lab" / "=a" / "f.png", ["neutrophil"] * 2 + ["basophil"] * 2)
    fakes.draw_field(tmp_path / "lab" / "b" / "f.png", ["neutrophil"] * 3 + ["basophil"])
    (tmp_path / "lab" / "differentials.csv").write_text("slide,neutrophil,basophil\n=a,3,1\nb,75.0,25.0\nc,1,1\n")
    code, stdout, error = verify(tmp_path / "lab", "--out", tmp_path / "out")
    assert (code, error) == (3, "")
    assert stdout.splitlines()[2:] == [
        "2 slides, 0 with enough counted cells",
        "  neutrophil: tool minus reader -12.50 percentage points, 95 % limits of agreement -47.15 to +22.15",
        "  basophil: tool minus reader +12.50 percentage points, 95 % limits of agreement -22.15 to +47.15",
        "c is left out: no such slide, or it failed",
        "not in the verdict: 2 slides with fewer than 100 cells counted by the tool or the reader",
        f"{tmp_path}/out/verification.html written",
        "No verdict: 0 slides with 100 counted cells; 20 needed.",
    ]
    assert json.loads((tmp_path / "out" / "verification.json").read_text())["kind"] == "slides"
    assert "(up to date)" in verify(tmp_path / "lab", "--out", tmp_path / "out")[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_verify_command_signal_gives_exit_code_of_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def stopped(settings: RunSettings) -> BoundStages:
        os.kill(os.getpid(), number)
        return fakes.fake_stages(settings)

    monkeypatch.setattr("wbctool.cli.verify.load_stages", stopped)
    fakes.draw_field(tmp_path / "lab" / "a" / "f.png", ["neutrophil"])
    (tmp_path / "lab" / "differentials.csv").write_text("slide,neutrophil\na,1\n")
    assert verify(tmp_path / "lab", "--out", tmp_path / "out")[0] == 128 + number
    assert not (tmp_path / "out" / "verification.json").exists()


@pytest.mark.parametrize("kind", ["cells", "slides"])
def test_verify_command_unwritable_folder_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in ("wbctool.load_models", "wbctool.cli.verify.load_stages"):
        monkeypatch.setattr(name, lambda *_: pytest.fail("it began"))
    draw_cells(tmp_path / "lab")
    if kind == "slides":
        (tmp_path / "lab" / "differentials.csv").write_text("slide,neutrophil\na,1\n")
    (tmp_path / "file").touch()
    code, _, error = verify(tmp_path / "lab", "--out", tmp_path / "file" / "out")
    assert (code, error) == (1, f"wbctool: {tmp_path}/file/out cannot be written: Not a directory\n")


def test_verify_command_folder_without_labels_is_refused(tmp_path: Path, models_dir: Path) -> None:
    code, _, error = verify(tmp_path, "--out", tmp_path / "out", "--models", models_dir)
    assert code == 1
    assert error.endswith(
        f"wbctool: {tmp_path}: no labeled cells to verify with: no folder is named after a class, and "
        "there is no differentials.csv\n"
    )
    assert not (tmp_path / "out").exists()


def test_verify_command_missing_folder_is_refused_before_models_load(tmp_path: Path) -> None:
    code, _, error = verify(tmp_path / "no", "--out", tmp_path / "out", "--models", tmp_path / "no models")
    assert (code, error) == (1, f"wbctool: {tmp_path}/no is not a folder\n")


def test_verify_cells_leaves_out_training_data(tmp_path: Path, models_dir: Path) -> None:
    card = json.loads((models_dir / "classifier.json").read_text())
    card["training"] = {"datasets": {"pbc": 100}, "group_split": {"fold": 0, "held_out_datasets": []}}
    (models_dir / "classifier.json").write_text(json.dumps(card))
    models = load_models(models_dir, Device.CPU, Precision.FP32)
    known, fresh = (verify_cells(draw_cells(tmp_path / name, 12), models, SuperResolve.AUTO) for name in ("pbc", "lab"))
    assert fresh.cells == 24
    assert 0 < known.cells < 24
    assert f"{24 - known.cells} cells left out: the models were trained on a data set of that name" in known.notes


def test_verify_cells_leaves_out_validation_groups_of_calibration_data(tmp_path: Path, models_dir: Path) -> None:
    card = json.loads((models_dir / "classifier.json").read_text())
    card["training"] = {"datasets": {"pbc": 100}, "calibrated_on": {"pbc": 9, "lab": 9}}
    (models_dir / "classifier.json").write_text(json.dumps(card))
    images = read_class_folders(draw_cells(tmp_path / "lab", 12))
    validation = sum(GroupSplit().assign(image) is Split.VALIDATION for image in images)
    found = verify_cells(tmp_path / "lab", load_models(models_dir, Device.CPU, Precision.FP32), SuperResolve.AUTO)
    assert validation > 0
    assert found.cells == 24 - validation


def test_verify_cells_leaves_out_what_taught_the_second_reader(tmp_path: Path, models_dir: Path) -> None:
    card = json.loads((models_dir / "compact.json").read_text())
    card["training"] = {"datasets": {"lab": 100}}
    (models_dir / "compact.json").write_text(json.dumps(card))
    images = read_class_folders(draw_cells(tmp_path / "lab", 12))
    unseen = sum(GroupSplit().assign(image) is Split.TEST for image in images)
    found = verify_cells(tmp_path / "lab", load_models(models_dir, Device.CPU, Precision.FP32), SuperResolve.AUTO)
    assert 0 < found.cells == unseen < len(images)
    assert any("the models were trained on a data set of that name" in note for note in found.notes)


def test_compare_cells_that_a_run_does_not_find_are_no_silent_errors() -> None:
    """They are lost, which is named beside the silent errors."""
    images = [LabelledImage(Path(f"{i}.png"), CellClass.MONOCYTE, str(i), "lab") for i in range(4)]
    predictions = [fakes.predict(CellClass.LYMPHOCYTE)] * 4
    found = compare_cells(images, predictions, tuple(CellClass), [True, True, True, False])
    assert (found.silent_errors.n, found.silent_errors.total, found.missed) == (3, 4, 1)


def test_verify_cells_of_an_unfamiliar_laboratory_leaves_the_unsure_to_a_reader(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(predictions: list[Prediction], *_: object, **__: object) -> tuple[list[Prediction], Familiarity]:
        unsure = [p.sent_to_review(Reason.UNFAMILIAR_SLIDE) for p in predictions]
        return unsure, Familiarity(len(predictions), 99.0, 80.0, False)

    monkeypatch.setattr(cells, "judge_familiarity", judge)
    found = verify_cells(
        draw_cells(tmp_path / "lab", 12), load_models(models_dir, Device.CPU, Precision.FP32), SuperResolve.AUTO
    )
    assert (found.auto_classified.n, found.silent_errors.n) == (0, 0)
    assert any(note.startswith("all cells together are unlike the laboratories") for note in found.notes)


def test_verify_cells_missing_library_names_the_extra(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    models = load_models(models_dir, Device.CPU, Precision.FP32)
    with pytest.raises(
        MissingDependency, match=r"`wbctool verify` needs sklearn\S*: pip install 'wbctool\[evaluate\]'"
    ):
        verify_cells(draw_cells(tmp_path / "lab"), models, SuperResolve.AUTO)


def test_verify_cells_unreadable_cell_is_named(tmp_path: Path, models_dir: Path) -> None:
    (draw_cells(tmp_path / "lab") / "neutrophil" / "bad.png").write_bytes(b"")
    models = load_models(models_dir, Device.CPU, Precision.FP32)
    with pytest.raises(LabelledDataInvalid, match=r"neutrophil/bad.png: the file is empty"):
        verify_cells(tmp_path / "lab", models, SuperResolve.AUTO)

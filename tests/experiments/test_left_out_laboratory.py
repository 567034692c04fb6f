"""The rule for unfamiliar slides, measured on laboratories left out of training."""

from pathlib import Path

import pytest
from wbctool_training.options import TrainingOptions

import experiments.left_out_laboratory
import experiments.readers
from experiments.left_out_laboratory import format_table, main
from experiments.operating_points import choose_min_confidence, measure_rule
from wbctool.enums import TrainStage
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.model_card import default_models_dir
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Outcome, Prediction, Reason


def _cell(
    confidence: float,
    kind: CellClass | str = CellClass.MONOCYTE,
    outcome: Outcome = Outcome.COUNTED,
    laboratory: str = "a",
) -> EvaluatedCell:
    prediction = Prediction(CellClass.MONOCYTE, confidence, (confidence,), 0.0, outcome, Reason.NONE)
    return EvaluatedCell(laboratory, "x.png", "g", kind, None, prediction, is_found=True)


CELLS = [
    _cell(0.95),
    _cell(0.80),
    _cell(0.85, CellClass.LYMPHOCYTE),  # a silent error
    _cell(0.99, outcome=Outcome.NEEDS_REVIEW),
    _cell(0.92, UnknownKind.BLAST),
]


def test_measure_rule_counts_what_both_readers_are_sure_of() -> None:
    point = measure_rule(CELLS, 0.8)
    assert (point.silent_errors, point.coverage, point.unknown_counted) == (1 / 4, 3 / 4, 1)
    point = measure_rule(CELLS, 0.93)
    assert (point.silent_errors, point.coverage, point.unknown_counted) == (0, 1 / 4, 0)
    assert point.unknown_in_review == 1


def test_choose_min_confidence_takes_the_smallest_that_suits_every_laboratory() -> None:
    known = [cell for cell in CELLS if cell.kind is not UnknownKind.BLAST]
    assert choose_min_confidence({"a": known}) == 0.86
    assert choose_min_confidence({"a": known, "b": [_cell(0.9, CellClass.BASOPHIL)]}) == 0.91
    assert choose_min_confidence({"a": CELLS}) == 0.93  # the blast is not to be counted either


def test_format_table_chooses_for_each_laboratory_on_the_others() -> None:
    other = [_cell(0.9, CellClass.BASOPHIL), _cell(0.99)]
    lines = format_table({"a": CELLS, "b": other}).splitlines()
    assert lines[2] == "| a | 4 | 75.0% | 0.91 | 0.0% | 25.0% | 100.0% of 1 | 0.0% |"
    assert lines[3] == "| b | 2 | 50.0% | 0.93 | 0.0% | 50.0% | - | - |"


def test_format_table_of_one_laboratory_says_that_the_confidence_was_chosen_on_it() -> None:
    header, _, row, *_ = format_table({"a": CELLS}).splitlines()
    assert "confidence chosen on these cells" in header
    assert "| 0.93 |" in row


def write_image(dataset: Path) -> Path:
    """An image of a neutrophil, whose pixels nothing here reads; return the data set's folder."""
    (dataset / "neutrophil").mkdir(parents=True, exist_ok=True)
    (dataset / "neutrophil" / "1.png").write_bytes(b"")
    return dataset


def run_main(folder: Path, dataset: str, *options: str) -> None:
    """Run the experiment on a data set with one image, in a folder."""
    main(["--data", str(write_image(folder / dataset)), "--out", str(folder), *options])


def test_main_data_without_the_laboratory_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataInvalid, match="--data hold no labeled cell of b, so"):
        run_main(tmp_path, "a", "--leave-out", "b")


def test_main_laboratory_that_the_first_reader_was_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="was trained on pbc"):
        run_main(tmp_path, "pbc", "--leave-out", "pbc")
    assert (default_models_dir() / "classifier.json").is_file()


def test_main_compact_alone_may_leave_out_what_the_first_reader_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments.readers, "train", lambda *_: None)
    monkeypatch.setattr(experiments.left_out_laboratory, "evaluate_readers", lambda *_: CELLS)
    run_main(tmp_path, "a", "--leave-out", "a", "--readers", "compact")
    assert "| a | 4 | 75.0% |" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "a").glob("*.onnx")) == ["detector.onnx", "generator.onnx"]


@pytest.mark.parametrize(("recipe", "has_start"), [("default", False), ("last-block", True)])
def test_main_first_reader_starts_where_its_recipe_says(
    recipe: str, has_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[TrainingOptions, str, TrainStage]] = []
    monkeypatch.setattr(experiments.readers, "train", lambda *arguments: trained.append(arguments))
    monkeypatch.setattr(experiments.left_out_laboratory, "evaluate_readers", lambda *_: CELLS)
    run_main(tmp_path, "a", "--leave-out", "a", "--train-first", recipe)
    options, first_recipe, stage = trained[-1]
    assert (stage, first_recipe) == (TrainStage.CLASSIFIER, recipe)
    assert options.init_from == ([default_models_dir()] if has_start else [])
    assert sorted(path.name for path in (tmp_path / "a").glob("*.onnx")) == ["detector.onnx", "generator.onnx"]


def test_main_first_reader_trained_afresh_may_have_known_the_laboratory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments.readers, "train", lambda *_: None)
    monkeypatch.setattr(
        experiments.left_out_laboratory, "evaluate_readers", lambda *_: [_cell(0.9, laboratory="pbc")] * 2
    )
    run_main(tmp_path, "pbc", "--leave-out", "pbc", "--train-first", "default")
    with pytest.raises(SettingsInvalid, match="was trained on pbc"):
        run_main(tmp_path, "pbc", "--leave-out", "pbc", "--train-first", "last-block")

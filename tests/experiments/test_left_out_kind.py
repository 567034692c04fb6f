"""Kinds of cells that no class fits, left out of training."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from wbctool_training.recipe_files import load_recipe

import experiments.left_out_kind
from experiments.left_out_kind import RESULT, format_table, main
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Outcome, Prediction, Reason


def _cell(kind: CellClass | str, confidence: float, outcome: Outcome = Outcome.COUNTED) -> EvaluatedCell:
    prediction = Prediction(CellClass.LYMPHOCYTE, confidence, (confidence,), 0.0, outcome, Reason.NONE)
    return EvaluatedCell("lmu", "x.png", "g", kind, None, prediction, is_found=True)


CELLS = [
    _cell(UnknownKind.BLAST, 0.99),
    _cell(UnknownKind.BLAST, 0.90),
    _cell(UnknownKind.BLAST, 0.99, Outcome.NEEDS_REVIEW),
    _cell(UnknownKind.BLAST, 0.99, Outcome.NOT_WBC),
    _cell(UnknownKind.SMUDGE, 0.50, Outcome.NEEDS_REVIEW),
    _cell(CellClass.LYMPHOCYTE, 0.99),
]


def test_format_table_not_wbc_is_neither_counted_nor_in_review() -> None:
    kinds = {kind: [cell for cell in CELLS if cell.kind == kind] for kind in (UnknownKind.BLAST, UnknownKind.SMUDGE)}
    assert format_table(kinds, 0.94).splitlines()[2:] == [
        "| blast | 4 | 50.0% | 25.0% | 25.0% | 50.0% |",
        "| smudge | 1 | 0.0% | 100.0% | 0.0% | 100.0% |",
        "| all | 5 | 40.0% | 40.0% | 20.0% | 60.0% |",
    ]


def test_main_trains_without_the_kind_and_measures_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes: list[Path] = []

    def train(_folder: Path, _args: Any, recipe: str) -> None:
        recipes.append(Path(recipe))

    monkeypatch.setattr(experiments.left_out_kind, "train_readers", train)
    monkeypatch.setattr(experiments.left_out_kind, "evaluate_readers", lambda *_: CELLS)
    for kind in ("blast", "smudge"):
        (tmp_path / "lmu" / kind).mkdir(parents=True)
        (tmp_path / "lmu" / kind / "1.png").write_bytes(b"")
    data = ["--data", str(tmp_path / "lmu")]
    main([*data, "--out", str(tmp_path), "--leave-out-kind", "blast", "--leave-out-kind", "smudge"])
    default = load_recipe("default").compact
    assert default is not None
    for recipe, left_out in zip(recipes, (UnknownKind.BLAST, UnknownKind.SMUDGE), strict=True):
        assert tomllib.loads(recipe.read_text())["extends"] == "default"
        compact = load_recipe(str(recipe)).compact
        assert compact is not None
        assert set(default.unknown_kinds) - set(compact.unknown_kinds) == {left_out}
    assert "| blast | 4 | 50.0% |" in capsys.readouterr().out
    assert (tmp_path / RESULT).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--leave-out-kind", "atypical_lymphocyte"], "--data hold no atypical_lymphocyte"),
        (["--leave-out-kind", "blast", "--recipe", "own.toml"], "by its name"),
    ],
)
def test_main_what_would_fail_after_training_is_refused_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "lmu" / "blast").mkdir(parents=True)
    (tmp_path / "lmu" / "blast" / "1.png").write_bytes(b"")
    with pytest.raises((LabelledDataInvalid, SystemExit)) as refused:
        main(["--data", str(tmp_path / "lmu"), "--out", str(tmp_path), *arguments])
    assert message in str(refused.value) + capsys.readouterr().err

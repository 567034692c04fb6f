"""`python -m benchmarks.pytorch_baseline`: the shipped classifier without wbctool around it."""

import csv
import sys
from pathlib import Path

import pytest

from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card

pytestmark = pytest.mark.train
SLIDES = Path(__file__).parents[1] / "data" / "slides"


def test_main_counts_the_cells_of_each_slide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.pytorch_baseline import main

    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "one").symlink_to(SLIDES / "slide-02")
    out = tmp_path / "out.csv"
    monkeypatch.setattr(sys, "argv", ["pytorch_baseline", str(tmp_path / "slides"), str(out), "--batch", "4"])
    main()
    header, row = csv.reader(out.open())
    assert header == ["slide", *load_fp32_card(default_models_dir(), ClassifierCard).classes]
    assert row[0] == "one"
    assert sum(map(int, row[1:])) > 0

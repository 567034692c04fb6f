"""int8 copies of adapted models."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest
from tiny_laboratory import COLORS, draw, write_models_of_elsewhere
from typer.testing import CliRunner

from wbctool.adaptation.cells import read_labelled_cells
from wbctool.cli import app
from wbctool.cli.models_optimize import optimize_models
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.evaluation.classification import predict
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import ClassifierCard, read_card_of_kind

pytestmark = pytest.mark.slow


def test_optimize_adapted_models_keeps_what_they_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, lab = write_models_of_elsewhere(tmp_path / "models"), tmp_path / "lab-models"
    for i in range(40):
        label = list(COLORS)[i % 2]
        draw(tmp_path / "cells" / label / f"{i}.png", [label], seed=i, contrast=35)
    adapted = CliRunner().invoke(app, ["adapt", str(tmp_path / "cells"), "--models", str(models), "--out", str(lab)])
    assert adapted.exit_code == 0, adapted.output
    # the tiny generator has no convolution, so it has no int8 copy
    assert optimize_models(lab, None, None, Precision.INT8, fakes.make_comparison_clock(4.0, 2.0)) == 1
    copy = read_card_of_kind(lab / "classifier.int8.json", ClassifierCard)
    plain = read_card_of_kind(lab / "classifier.json", ClassifierCard)
    assert copy.adaptation == plain.adaptation is not None
    assert copy.familiarity is not None
    assert copy.familiarity.own_laboratory is not None
    fp32, int8 = (load_models(lab, Device.CPU, precision) for precision in (Precision.FP32, Precision.INT8))
    assert int8.classifier.precision is Precision.INT8
    crops = [cell.crop for cell in read_labelled_cells(tmp_path / "cells", fp32, lambda items, *_: items)]
    named = [[p.label for p in predict(crops, m, SuperResolve.AUTO)] for m in (fp32, int8)]
    assert named[0] == named[1]
    draw(tmp_path / "slides" / "s0" / "f.png", ["monocyte", "basophil"] * 4, seed=99, contrast=35)
    command = ["run", tmp_path / "slides", "--out", tmp_path / "counts.csv", "--models", lab, "--precision", "int8"]
    done = CliRunner().invoke(app, [*map(str, command), "--quiet"])
    assert done.exit_code == 0, done.output
    report = (tmp_path / "counts" / "s0" / "report.html").read_text()
    assert "classifier, adapted to lab-models" in report
    assert "int8" in report

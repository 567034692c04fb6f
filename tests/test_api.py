"""The Python API: one image, and published results as tables."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import fakes
import numpy as np
import pandas as pd
import pytest
from tiny_laboratory import draw
from tiny_models import write_tiny_models

import wbctool
from wbctool.errors import FieldImplausible, FieldUnreadable, ResultsInvalid
from wbctool.imaging.reader import read_field
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.pipeline.bound_stages import bind_stages
from wbctool.settings import load_settings

PAGE = Path(__file__).parents[1] / "docs" / "python-api.md"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models; the examples of the page load the shipped ones."""
    return wbctool.load_models(write_tiny_models(tmp_path_factory.mktemp("models")), "cpu", "fp32")


def test_import_of_package_is_cheap() -> None:
    code = "import sys, wbctool; print([m for m in ('numpy', 'pandas', 'cv2', 'pydantic') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError):
        _ = wbctool.no_such_name


def test_analyze_image_finds_cells_of_run(models, real_jpeg: Path, tmp_path: Path) -> None:
    analysis = wbctool.analyze_image(real_jpeg, models)
    stages = bind_stages(models, load_settings({"slides": tmp_path, "out": tmp_path / "c.csv"}))
    field = read_field(real_jpeg)
    detections = [d for d in stages.detect(field) if d.object_class == "wbc"]
    predictions = stages.classify(stages.preprocess(stages.crop(field, [d.box for d in detections])).rgb)
    assert analysis.cells
    assert [cell.detection for cell in analysis.cells] == detections
    assert tuple(cell.prediction for cell in analysis.cells) == predictions
    assert [cell.index for cell in analysis.cells] == list(range(1, len(detections) + 1))
    assert analysis.differential.cells == len(detections)


def test_analyze_image_gives_the_map_of_each_cells_label(models, tmp_path: Path) -> None:
    """As a run does."""
    path = draw(tmp_path / "cells.png", ["monocyte", "basophil", "monocyte"], seed=1)
    maps = [cell.prediction.cam for cell in wbctool.analyze_image(path, models).cells]
    assert len(maps) >= 3
    assert {len(cam) for cam in maps} == {16}
    stages = bind_stages(models, load_settings({"slides": tmp_path, "out": tmp_path / "c.csv"}))
    rgb = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), np.uint8)
    (prediction,) = stages.classify(rgb)
    (by_class,) = models.classifier.run(rgb, "cam")
    assert prediction.cam == by_class[0, list(CellClass).index(prediction.label)].tobytes()


def test_analyze_image_takes_array_like_file(models, real_jpeg: Path) -> None:
    from_array = wbctool.analyze_image(read_field(real_jpeg).rgb, models)
    from_file = wbctool.analyze_image(str(real_jpeg), models)
    assert from_array.differential == from_file.differential
    assert [cell.prediction for cell in from_array.cells] == [cell.prediction for cell in from_file.cells]


def test_analyze_image_uses_limits_and_mode(models, real_jpeg: Path) -> None:
    analysis = wbctool.analyze_image(real_jpeg, models, "never", Limits(low_count_below=1, limited_count_below=1))
    assert not any(cell.super_resolved for cell in analysis.cells)
    assert "low_count" not in analysis.differential.flags


@pytest.mark.parametrize("array", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))])
def test_analyze_image_refuses_other_arrays(models, array) -> None:
    with pytest.raises(ValueError, match="uint8, RGB"):
        wbctool.analyze_image(array, models)


def test_analyze_image_refuses_broken_file(models, tmp_path: Path) -> None:
    (tmp_path / "field.jpg").write_bytes(b"no image")
    with pytest.raises(FieldUnreadable):
        wbctool.analyze_image(tmp_path / "field.jpg", models)


def test_analyze_image_refuses_what_cannot_be_a_smear(models, real_jpeg: Path) -> None:
    with pytest.raises(FieldImplausible):
        wbctool.analyze_image(np.ascontiguousarray(read_field(real_jpeg).rgb[..., ::-1]), models)


def test_read_results_keeps_names_and_gives_types(run) -> None:
    names = ["=1+1", "NA", "null", "'x"]
    for name in names:
        fakes.draw_field(run.root / name / "f.png", ["neutrophil", "review"])
    fakes.draw_field(run.root / "nothing" / "f.png", [])
    run()
    table = wbctool.read_results(run.folder).set_index("slide")
    assert {*names, "s2", "s10", "nothing"} == set(table.index)
    assert table.loc["NA", "neutrophil_n"] == 1
    assert table.loc["NA", "neutrophil_pct"] == 100.0
    assert table.loc["nothing", "neutrophil_pct"] is pd.NA
    assert (table.dtypes["counted"], table.dtypes["neutrophil_ci95_low"]) == (pd.Int64Dtype(), pd.Float64Dtype())
    assert table.loc["nothing", "flags"].split(";")[0] == "no_wbc"


def test_read_cells_has_each_cell_with_types(run) -> None:
    fakes.draw_field(run.root / "NA" / "null.png", ["neutrophil"])
    run()
    table = wbctool.read_cells(run.out)
    assert len(table) == wbctool.read_results(run.out)["cells"].sum() == 16
    assert table[table["slide"] == "NA"]["field"].tolist() == ["null.png"]
    assert table["x"].dtype == pd.Int64Dtype()
    assert table["p_neutrophil"].dtype == table["confidence"].dtype == pd.Float64Dtype()
    assert table["super_resolved"].dtype == pd.BooleanDtype()
    assert set(table["outcome"]) == {"counted", "review", "not_wbc"}
    assert (table["subtype"].dtype, table["diameter_um"].dtype) == (pd.StringDtype(), pd.Float64Dtype())


def test_read_results_of_another_table_names_its_column(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("slide,age\ns2,7\n")
    with pytest.raises(ResultsInvalid, match="age"):
        wbctool.read_results(tmp_path / "counts.csv")


def test_read_results_of_no_run_names_missing_table(tmp_path: Path) -> None:
    with pytest.raises(ResultsInvalid) as caught:
        wbctool.read_results(tmp_path / "counts.csv")
    assert str(tmp_path / "counts.csv") in str(caught.value)


def test_examples_of_page_run(run, real_jpeg: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run()
    shutil.copy(real_jpeg, run.out.parent / "field.jpg")
    monkeypatch.chdir(run.out.parent)
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(example, {})
    printed = capsys.readouterr().out
    assert "neutrophil" in printed
    assert "s10" in printed

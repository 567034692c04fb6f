"""The Table Schemas against the code's own columns and against what a real run writes."""

import json
from importlib import resources
from pathlib import Path

import fakes
import pytest

from wbctool.labels import CellClass
from wbctool.report.tables import CELL_COLUMNS, COUNTS_COLUMNS, DIFFERENTIAL_COLUMNS

frictionless = pytest.importorskip("frictionless")


def schema(name):
    content = json.loads((resources.files("wbctool.report") / "schemas" / f"{name}.json").read_text())
    return frictionless.Schema.from_descriptor(content)


def problems(path: Path, name: str, **options) -> list[str]:
    with frictionless.system.use_context(trusted=True):
        detector = frictionless.Detector(**options)
        resource = frictionless.Resource(path=str(path), schema=schema(name), detector=detector, encoding="utf-8")
        return [error.message for error in resource.validate().task.errors]


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("counts", COUNTS_COLUMNS),
        ("differential", DIFFERENTIAL_COLUMNS),
        ("cells", (*CELL_COLUMNS, *(f"p_{label}" for label in CellClass))),
    ],
)
def test_the_schemas_have_our_columns_each_described(name, columns):
    fields = schema(name).fields
    assert tuple(field.name for field in fields) == columns
    assert all(field.description for field in fields)


def test_what_a_run_writes_meets_them(run):
    (run.root / "s2" / "bad.png").write_bytes(b"")
    fakes.draw_field(run.root / "none" / "f.png", [])
    fakes.draw_field(run.root / "=odd, 'name" / "f.png", ["immature_granulocyte"] * 120)
    (run.root / "broken").mkdir()
    (run.root / "broken" / "f.png").write_bytes(b"")
    run(adult=True)
    assert len(run.rows()) == 5
    assert problems(run.out, "counts") == []
    for slide in ("s2", "s10", "none", "broken", "=odd, 'name"):
        assert problems(run.folder / slide / "differential.csv", "differential") == []
        assert problems(run.folder / slide / "cells.csv", "cells") == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cells", "counted", "kept"),
        ("cells", ",true,", ",yes,"),
        ("cells", "0.9300", "93.00"),
        ("differential", "basophil", "blast"),
        ("differential", "100.00", "many"),
        ("counts", ",ok,", ",fine,"),
        ("counts", "fields,", "images,"),
    ],
)
def test_they_refuse_what_is_not_ours(run, tmp_path, name, old, new):
    run()
    path = run.out if name == "counts" else run.folder / "s2" / f"{name}.csv"
    text = path.read_text()
    if old == "100.00":
        old = "50.00"
    assert old in text
    (tmp_path / "t.csv").write_text(text.replace(old, new))
    assert problems(tmp_path / "t.csv", name)


def test_a_model_with_fewer_classes_has_fewer_columns(tmp_path):
    from wbctool.report.tables import cells_csv

    (tmp_path / "cells.csv").write_text(cells_csv("s", [], tuple(CellClass)[:4]))
    assert problems(tmp_path / "cells.csv", "cells", schema_sync=True) == []

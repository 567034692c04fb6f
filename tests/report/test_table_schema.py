"""The Table Schemas against the columns of the code and the files of a run."""

import json
from pathlib import Path

import fakes
import pytest

from wbctool.labels import CellClass
from wbctool.report.csv_tables import CELL_COLUMNS, COUNTS_COLUMNS, DIFFERENTIAL_COLUMNS
from wbctool.report.table_schema import TABLES, table_schema_files, table_schema_json
from wbctool.types.results import LATER_CELL_COLUMNS

frictionless = pytest.importorskip("frictionless")


def schema(name):
    return frictionless.Schema.from_descriptor(json.loads(table_schema_json(name)))


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
        ("cells", (*CELL_COLUMNS, *(f"p_{label}" for label in CellClass), *LATER_CELL_COLUMNS)),
    ],
)
def test_table_schema_columns_match_and_are_described(name, columns):
    fields = schema(name).fields
    assert tuple(field.name for field in fields) == columns
    assert all(field.description for field in fields)


def test_table_schema_files_are_named_by_table():
    assert list(table_schema_files()) == [f"{table}.schema.json" for table in TABLES]
    assert table_schema_files()["cells.schema.json"].decode() == table_schema_json("cells")


def test_table_schema_unknown_table_raises():
    with pytest.raises(ValueError, match="slides"):
        table_schema_json("slides")


def test_table_schema_accepts_files_of_a_run(run):
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
def test_table_schema_rejects_altered_file(run, tmp_path, name, old, new):
    run()
    path = run.out if name == "counts" else run.folder / "s2" / f"{name}.csv"
    text = path.read_text()
    if old == "100.00":
        old = "50.00"
    assert old in text
    (tmp_path / "t.csv").write_text(text.replace(old, new))
    assert problems(tmp_path / "t.csv", name)


def test_table_schema_accepts_model_with_fewer_classes(tmp_path):
    from wbctool.report.csv_tables import cells_csv

    (tmp_path / "cells.csv").write_text(cells_csv("s", [], tuple(CellClass)[:4]))
    assert problems(tmp_path / "cells.csv", "cells", schema_sync=True) == []

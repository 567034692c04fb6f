"""Tables of cells of this version and of earlier ones."""

import csv
import hashlib
import io
from dataclasses import replace

import fakes
import pytest

from wbctool.labels import CellClass, Subtype
from wbctool.report.csv_tables import cells_csv
from wbctool.store.reader import read_cell
from wbctool.store.replay import table_matches
from wbctool.types.cells import Box, Cell, Detection
from wbctool.types.results import LATER_CELL_COLUMNS

CLASSES = tuple(CellClass)


def _cells(label: str = "neutrophil", subtype: Subtype | None = Subtype.BAND) -> list[Cell]:
    prediction = replace(fakes.predict(label), subtype=subtype)
    return [Cell(name, 1, Detection(Box(3, 4, 50, 60), 0.9), True, prediction) for name in ("a", 'b",\r\n\u00e9')]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("later_columns", [(), LATER_CELL_COLUMNS])
def test_table_matches_a_table_of_the_same_cells(later_columns: tuple[str, ...]) -> None:
    table = cells_csv("=s", _cells(), CLASSES).encode()
    assert table_matches(table, _sha256(cells_csv("=s", _cells(), CLASSES, later_columns)))
    assert not table_matches(table, _sha256(cells_csv("=s", _cells("monocyte"), CLASSES, later_columns)))


def test_table_matches_an_earlier_table_whatever_the_subtypes() -> None:
    other = cells_csv("s", _cells(subtype=Subtype.SEGMENTED), CLASSES)
    assert table_matches(other.encode(), _sha256(cells_csv("s", _cells(), CLASSES, ())))
    assert not table_matches(other.encode(), _sha256(cells_csv("s", _cells(), CLASSES)))


def test_table_matches_no_table_matches_nothing() -> None:
    assert not table_matches(b"", _sha256(cells_csv("s", _cells(), CLASSES)))


@pytest.mark.parametrize(
    ("later_columns", "subtype"), [(LATER_CELL_COLUMNS, Subtype.BAND), ((), None)], ids=["this version", "earlier"]
)
def test_read_cell_gives_back_the_subtype(later_columns: tuple[str, ...], subtype: Subtype | None) -> None:
    table = cells_csv("s", _cells(), CLASSES, later_columns)
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [read_cell(row, CLASSES).prediction.subtype for row in rows] == [subtype] * 2

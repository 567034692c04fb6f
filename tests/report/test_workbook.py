"""The workbook as Excel, openpyxl and pandas read it."""

import io

import openpyxl
import pandas as pd

from wbctool.labels import CellClass
from wbctool.report.csv_tables import COUNTS_COLUMNS, empty_row
from wbctool.report.workbook import counts_workbook
from wbctool.types.results import SlideStatus


def rows(*names, classes=CellClass):
    return [empty_row(name, SlideStatus.FAILED, 3, classes) for name in names]


def load(*args, **kwargs):
    return openpyxl.load_workbook(io.BytesIO(counts_workbook(rows(*args, **kwargs))))


def test_name_that_looks_like_a_formula_stays_text():
    names = ["=1+1", "+2", "-3", "@SUM(A1)", "'=1", "007", "1e5", "TRUE"]
    cells = load(*names)["counts"]["A"][1:]
    assert [(cell.value, cell.data_type) for cell in cells] == [(name, "s") for name in names]
    assert [cell.quotePrefix for cell in cells[:4]] == [True] * 4  # it stays text when a person edits the cell


def test_name_that_xml_cannot_hold_is_written_visibly():
    assert [cell.value for cell in load("a\x1b\uffff", "b\udcff", "é")["counts"]["A"][1:]] == [
        r"a\x1b\uffff",
        r"b\xff",
        "é",
    ]


def test_numbers_are_numbers_and_what_is_missing_is_empty():
    sheet = load("a", classes=(CellClass.NEUTROPHIL,))["counts"]
    row = dict(zip(COUNTS_COLUMNS, (cell.value for cell in sheet[2]), strict=True))
    assert (row["fields"], row["neutrophil_n"], row["neutrophil_pct"]) == (3, 0, None)
    assert (row["monocyte_n"], row["flags"]) == ("not_assessed", None)


def test_definitions_name_each_column_with_meaning_and_unit():
    table = pd.read_excel(io.BytesIO(counts_workbook(rows("a"))), sheet_name="definitions", na_filter=False)
    assert tuple(table["column"]) == COUNTS_COLUMNS
    assert all(table["meaning"])
    units = dict(zip(table["column"], table["unit"], strict=True))
    assert (units["fields"], units["counted"], units["neutrophil_pct"]) == ("images", "cells", "percent")
    assert units["nrbc_per_100_wbc"] == "per 100 white cells"


def test_same_table_gives_same_bytes_at_another_time(monkeypatch):
    first = counts_workbook(rows("a"))
    monkeypatch.setattr("time.localtime", lambda *_: (2031, 1, 1, 0, 0, 0, 0, 1, 0))
    assert counts_workbook(rows("a")) == first

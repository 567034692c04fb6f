import csv
import io
from dataclasses import replace

import fakes
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbctool.labels import CellClass, Subtype
from wbctool.limits import Limits
from wbctool.report.csv_tables import (
    COUNTS_COLUMNS,
    cells_csv,
    counts_csv,
    counts_row,
    decode_csv_name,
    differential_csv,
    empty_row,
    encode_csv_name,
    hash_cells,
)
from wbctool.stages.differential import count_cells
from wbctool.types.cells import Box, Cell, Detection
from wbctool.types.results import LATER_CELL_COLUMNS, SlideResult, SlideStatus

FOUR = tuple(CellClass)[:4]


def result(names, known=tuple(CellClass), slide="s", **limits):
    predictions = [fakes.predict(name) for name in names]
    differential = count_cells(predictions, known, Limits(**limits))
    return SlideResult(slide, SlideStatus.OK, 1, (), (), (), differential)


def test_counts_columns_match_contract():
    assert ",".join(COUNTS_COLUMNS) == (
        "slide,status,fields,fields_failed,cells,counted,review,not_wbc,"
        "neutrophil_n,neutrophil_pct,neutrophil_ci95_low,neutrophil_ci95_high,"
        "lymphocyte_n,lymphocyte_pct,lymphocyte_ci95_low,lymphocyte_ci95_high,"
        "monocyte_n,monocyte_pct,monocyte_ci95_low,monocyte_ci95_high,"
        "eosinophil_n,eosinophil_pct,eosinophil_ci95_low,eosinophil_ci95_high,"
        "basophil_n,basophil_pct,basophil_ci95_low,basophil_ci95_high,"
        "immature_granulocyte_n,immature_granulocyte_pct,immature_granulocyte_ci95_low,immature_granulocyte_ci95_high,"
        "nrbc_per_100_wbc,flags"
    )


def test_counts_csv_byte_for_byte():
    text = counts_csv([counts_row(result(["neutrophil"] * 9 + ["lymphocyte"] * 91, FOUR, adult=True))])
    assert text.splitlines()[1] == (
        "s,ok,1,0,100,100,0,0,9,9.00,4.20,16.40,91,91.00,83.60,95.80,0,0.00,0.00,3.62,0,0.00,0.00,3.62,"
        + "not_assessed," * 9
        + "limited_count"
    )
    assert text.endswith("\n")
    assert "\r" not in text


def test_differential_csv_byte_for_byte():
    text = differential_csv(result(["neutrophil"] * 9 + ["lymphocyte"] * 91, FOUR, adult=True).differential)
    assert text == (
        "class,n,percent,ci95_low,ci95_high,reference_low,reference_high,flag\n"
        "neutrophil,9,9.00,4.20,16.40,45.00,79.00,low\n"
        "lymphocyte,91,91.00,83.60,95.80,16.00,47.00,high\n"
        "monocyte,0,0.00,0.00,3.62,0.00,9.00,\n"
        "eosinophil,0,0.00,0.00,3.62,0.00,6.00,\n"
        "basophil,not_assessed,not_assessed,not_assessed,not_assessed,,,\n"
        "immature_granulocyte,not_assessed,not_assessed,not_assessed,not_assessed,,,\n"
    )


def test_cells_csv_byte_for_byte():
    detection = Detection(Box(3, 4, 50, 60), 0.98765, cut_by_border=True)
    platelet, band = fakes.predict("platelet"), replace(fakes.predict("neutrophil"), subtype=Subtype.BAND)
    cells = [Cell("a,b.png", 1, detection, False, platelet, 12.345), Cell("c", 2, detection, True, band)]
    assert cells_csv("=s", cells, tuple(CellClass)) == (
        "slide,field,cell,x,y,width,height,detection_score,cut_by_border,super_resolved,label,confidence,outcome,reason,"
        "p_neutrophil,p_lymphocyte,p_monocyte,p_eosinophil,p_basophil,p_immature_granulocyte,p_erythroblast,p_platelet,"
        "subtype,diameter_um\n"
        '\'=s,"a,b.png",1,3,4,50,60,0.9877,true,false,platelet,0.9300,not_wbc,platelet,'
        "0.0100,0.0100,0.0100,0.0100,0.0100,0.0100,0.0100,0.9300,,12.3\n"
        "'=s,c,2,3,4,50,60,0.9877,true,true,neutrophil,0.9300,counted,,"
        "0.9300,0.0100,0.0100,0.0100,0.0100,0.0100,0.0100,0.0100,band,\n"
    )


def test_cells_csv_of_earlier_results_ends_with_the_probabilities():
    cell = Cell("a.png", 1, Detection(Box(3, 4, 50, 60), 0.9), False, fakes.predict("platelet"), 12.345)
    table, earlier = (cells_csv("s", [cell], tuple(CellClass), columns) for columns in (LATER_CELL_COLUMNS, ()))
    n_later = len(LATER_CELL_COLUMNS)
    assert [line.rsplit(",", n_later)[0] for line in table.splitlines()] == earlier.splitlines()


def hash_of(cells, field_hashes=()):
    differential = count_cells([cell.prediction for cell in cells], tuple(CellClass), Limits())
    result = SlideResult("s", SlideStatus.OK, 1, (), tuple(cells), (), differential, field_hashes=field_hashes)
    return hash_cells(result, tuple(CellClass))


def test_hash_cells_depends_on_no_later_column():
    cell = Cell("a.png", 1, Detection(Box(3, 4, 50, 60), 0.9), False, fakes.predict("platelet"), 12.345)
    prediction = replace(cell.prediction, subtype=Subtype.BAND)
    other = replace(cell, diameter_um=None, prediction=prediction)
    assert hash_of([cell]) == hash_of([other])
    assert hash_of([cell]) != hash_of([replace(cell, super_resolved=True)])


def test_hash_cells_depends_on_the_images_of_a_slide_without_cells_alone():
    cell = Cell("a.png", 1, Detection(Box(3, 4, 50, 60), 0.9), False, fakes.predict("platelet"))
    one, other = (("a.png", "1" * 64),), (("a.png", "2" * 64),)
    assert hash_of([], one) != hash_of([], other)
    assert hash_of([cell], one) == hash_of([cell], other)


def test_empty_row_has_zeros_and_no_percents():
    row = empty_row("s", SlideStatus.WAITING, 4, FOUR)
    assert (row["fields"], row["fields_failed"], row["cells"]) == ("4", "0", "0")
    assert (row["neutrophil_n"], row["neutrophil_pct"]) == ("0", "")
    assert row["basophil_n"] == row["nrbc_per_100_wbc"] == "not_assessed"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\ufeff-1", "＝1"])
def test_encode_csv_name_formula_gets_apostrophe(name):
    assert encode_csv_name(name) == f"'{name}"


def test_encode_csv_name_plain_name_is_unchanged():
    assert [encode_csv_name(n) for n in ("1-2", "a=b", "", "'x")] == ["1-2", "a=b", "", "'x"]


NAMES = st.one_of(
    st.text(alphabet="'=+-@a \ufeff\u200b＝", max_size=6),
    st.text(alphabet="\\x\udcff\udc80f8='", max_size=8),
    st.text(),
)


@given(NAMES, NAMES)
def test_decode_csv_name_inverts_encode(a, b):
    assert decode_csv_name(encode_csv_name(a)) == a
    assert (encode_csv_name(a) == encode_csv_name(b)) == (a == b)
    assert not encode_csv_name(a).lstrip(" \ufeff\u200b").startswith(("=", "+", "-", "@", "＝"))


def test_encode_csv_name_is_one_to_one():
    written = {"=x": "'=x", "'=x": "''=x", "'": "'", "'a": "'a"}
    assert {name: encode_csv_name(name) for name in written} == written


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=4, unique=True))
def test_counts_csv_any_name_is_read_back(names):
    text = counts_csv([empty_row("x" + name, SlideStatus.WAITING, 1, FOUR) for name in names])
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[0] for row in rows[1:]] == ["x" + name for name in names]
    assert {len(row) for row in rows} == {len(COUNTS_COLUMNS)}


def test_counts_csv_pandas_reads_quoted_name():
    text = counts_csv([counts_row(result(["neutrophil"], slide='a\r\nb,"c"'))])
    table = pd.read_csv(io.StringIO(text), lineterminator="\n")
    assert table.loc[0, "neutrophil_pct"] == 100

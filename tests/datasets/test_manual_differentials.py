import unicodedata
from pathlib import Path

import pytest

from wbctool.datasets.manual_differentials import ManualDifferential, find_differentials, read_differentials
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass

SLIDES = ("a", "ward/b", "c", "=a", "ward 3, bed 2")


def read(folder: Path, text: str, encoding: str = "utf-8") -> dict[str, ManualDifferential]:
    (folder / "differentials.csv").write_text(text, encoding=encoding)
    return read_differentials(folder / "differentials.csv", SLIDES)


def test_read_differentials_reads_counts_and_percents(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,Neutrophils,LYMPHOCYTE\na,150,50\nward/b,75.0,25.0\nc,37.5,12.5\n")
    assert [row.percents[CellClass.NEUTROPHIL] for row in found.values()] == [75.0] * 3
    assert [row.counted for row in found.values()] == [200, 100, 100]
    assert found["a"].cell_count(CellClass.LYMPHOCYTE) == 50


def test_read_differentials_adds_bands_and_keeps_others_in_denominator(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,band,segmented,ly,other\na,10,50,30,10\n")
    assert found["a"].percents == {CellClass.NEUTROPHIL: 60.0, CellClass.LYMPHOCYTE: 30.0}


def test_read_differentials_takes_the_counted_column(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,neutrophil,lymphocyte,counted\na,62.5,37.5,400\n")
    assert (found["a"].counted, found["a"].cell_count(CellClass.NEUTROPHIL)) == (400, 250)


def test_read_differentials_with_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    found = read(tmp_path, "slide;neutrophil;lymphocyte\n'=a;62,5;37,5\n", "utf-8-sig")
    assert found["=a"].percents[CellClass.NEUTROPHIL] == 62.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing column 'slide'"),
        ("name,neutrophil\na,1\n", "missing column 'slide'"),
        ("slide,neutrophil\n", "has no rows"),
        ("slide,counted\na,1\n", "no column for any class"),
        (
            "slide,neutrophil,blasts\na,1,2\n",
            r"'blasts' is not a class of the differential .* count other white cells as 'other'",
        ),
        ("slide,neutrophil,nrbc\na,1,2\n", "'nrbc' stands outside the differential; remove it"),
        ("slide,neutrophil,total\na,1,2\n", "'total' is no class; call the number of counted cells 'counted'"),
        ("slide,segmented,band,neutrophil\na,1,2,3\n", "cells would be counted twice; keep 'neutrophil' or the finer"),
        ("slide,neutrophil,neutrophils\na,1,2\n", "'neutrophil', 'neutrophils' are of one class"),
        ("slide,neutrophil,counted\na,60,200\n", "add up to 60, neither to the 200 counted cells nor to 100 %"),
        ("slide,neutrophil,counted\na,100,0\n", "line 2: the values add up to 100, neither to the 0 counted"),
        ("slide,neutrophil,lymphocyte\na,60\n", "line 2: fewer values than the header has columns"),
        ("slide,neutrophil,lymphocyte\na,60,5,39,5\n", "line 2: more values than the header has columns"),
        ("slide,neutrophil,lymphocyte,neutrophil\na,60,30,10\n", "duplicate column 'neutrophil'"),
        ("slide,neutrophil\na,many\n", r"line 2, neutrophil: 'many' is not a number"),
        ("slide,neutrophil\na,-1\n", "'-1' is not a count or a percentage"),
        ("slide,neutrophil\na,nan\n", "'nan' is not a number"),
        ("slide,neutrophil\na,0\n", "line 2: nothing was counted"),
        ("slide,neutrophil\na,1\na,2\n", "line 3: duplicate slide"),
        ("slide,neutrophil\n,1\n", "line 2: no slide is named"),
    ],
)
def test_read_differentials_invalid_table_raises(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelledDataInvalid, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("where", ["header", "row"])
def test_read_differentials_unclosed_quote_raises(tmp_path: Path, where: str) -> None:
    """A quote that nobody closed takes in the rest of the file."""
    text = {"header": '"slide,neutrophil\n', "row": 'slide,neutrophil\n"a,1\n'}[where]
    with pytest.raises(LabelledDataInvalid, match=r"differentials\.csv, line \d+: invalid CSV: field larger than"):
        read(tmp_path, text + "b,1\n" * 40_000)


def test_read_differentials_keeps_comma_in_slide_name(tmp_path: Path) -> None:
    found = read(tmp_path, "sep=;\nSlide;Neutrophil ;lymphocyte;OTHER\nward 3, bed 2;62,5;30;7,5\n")
    assert found["ward 3, bed 2"].percents == {CellClass.NEUTROPHIL: 62.5, CellClass.LYMPHOCYTE: 30.0}
    with pytest.raises(LabelledDataInvalid, match="line 4, lymphocyte"):
        read(tmp_path, "sep=;\n\nslide;neutrophil;lymphocyte\na;1;x\n")


@pytest.mark.parametrize("value", ["1_0", "nan", "inf", "1e2", "0x1", "1,5"])
def test_read_differentials_unusual_number_raises(tmp_path: Path, value: str) -> None:
    with pytest.raises(LabelledDataInvalid, match="line 2, neutrophil"):
        read(tmp_path, f'slide,neutrophil,lymphocyte\na,"{value}",3\n')


def test_read_differentials_blank_cells_are_blank(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,neutrophil,lymphocyte,\u00a0\na\u00a0,10,,,\n\u00a0,,,\n")
    assert found["a"].percents == {CellClass.NEUTROPHIL: 100.0, CellClass.LYMPHOCYTE: 0.0}


def test_find_differentials_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Differentials.CSV").touch()
    assert find_differentials(tmp_path) == (tmp_path / "Differentials.CSV", [])


def test_find_differentials_names_tables_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "differentials.csv.txt").touch()
    assert find_differentials(tmp_path) == (None, ["differentials.csv.txt"])


def test_read_differentials_finds_slides_as_other_systems_write_them(tmp_path: Path) -> None:
    """A Mac's folder has é as two characters, and Windows writes a backslash."""
    slide = unicodedata.normalize("NFD", "ward 3/müller")
    (tmp_path / "differentials.csv").write_text("slide,neutrophil\nward 3\\müller,9\n", encoding="utf-8")
    assert list(read_differentials(tmp_path / "differentials.csv", [slide])) == [slide]


def test_read_differentials_counted_may_be_the_sum_or_of_percents(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,neutrophil,other,counted\na,150,50,200\nc,74.6,24.9,200\n=a,0.75,0.25,200\n")
    assert [row.counted for row in found.values()] == [200, 200, 200]


def test_read_differentials_empty_value_is_zero(tmp_path: Path) -> None:
    found = read(tmp_path, "slide,neutrophil,lymphocyte\na,10,\n")
    assert found["a"].percents == {CellClass.NEUTROPHIL: 100.0, CellClass.LYMPHOCYTE: 0.0}

from pathlib import Path

import pytest

from wbctool.datasets.manual_differentials import find_differentials, read_differentials
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "differentials.csv").write_text(text, encoding=encoding)
    return folder / "differentials.csv"


def test_read_differentials_reads_counts_and_percents(tmp_path: Path) -> None:
    read = read_differentials(
        table(tmp_path, "slide,Neutrophils,LYMPHOCYTE\na,150,50\nward/b,75.0,25.0\nc,37.5,12.5\n")
    )
    assert [row.percents[CellClass.NEUTROPHIL] for row in read.values()] == [75.0] * 3
    assert [row.counted for row in read.values()] == [200, 100, 100]
    assert read["a"].cell_count(CellClass.LYMPHOCYTE) == 50


def test_read_differentials_adds_bands_and_keeps_others_in_denominator(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "slide,band,segmented,ly,other\na,10,50,30,10\n"))
    assert read["a"].percents == {CellClass.NEUTROPHIL: 60.0, CellClass.LYMPHOCYTE: 30.0}


def test_read_differentials_takes_the_counted_column(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "slide,neutrophil,lymphocyte,counted\na,62.5,37.5,400\n"))
    assert (read["a"].counted, read["a"].cell_count(CellClass.NEUTROPHIL)) == (400, 250)


def test_read_differentials_with_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "slide;neutrophil;lymphocyte\n'=a;62,5;37,5\n", "utf-8-sig"))
    assert read["=a"].percents[CellClass.NEUTROPHIL] == 62.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing column 'slide'"),
        ("name,neutrophil\na,1\n", "missing column 'slide'"),
        ("slide,neutrophil\n", "has no rows"),
        ("slide,counted\na,1\n", "no column for any class"),
        (
            "slide,neutrophil,blasts\na,1,2\n",
            r"'blasts' is not a class of the differential .* count other cells as 'other'",
        ),
        ("slide,neutrophil,nrbc\na,1,2\n", "'nrbc' is not a class of the differential"),
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
        read_differentials(table(tmp_path, text))


@pytest.mark.parametrize("where", ["header", "row"])
def test_read_differentials_unclosed_quote_raises(tmp_path: Path, where: str) -> None:
    """A quote that nobody closed takes in the rest of the file."""
    text = {"header": '"slide,neutrophil\n', "row": 'slide,neutrophil\n"a,1\n'}[where]
    with pytest.raises(LabelledDataInvalid, match=r"differentials\.csv, line \d+: invalid CSV: field larger than"):
        read_differentials(table(tmp_path, text + "b,1\n" * 40_000))


def test_read_differentials_keeps_comma_in_slide_name(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "sep=;\nSlide;Neutrophil ;lymphocyte;OTHER\nward 3, bed 2;62,5;30;7,5\n"))
    assert read["ward 3, bed 2"].percents == {CellClass.NEUTROPHIL: 62.5, CellClass.LYMPHOCYTE: 30.0}
    with pytest.raises(LabelledDataInvalid, match="line 4, lymphocyte"):
        read_differentials(table(tmp_path, "sep=;\n\nslide;neutrophil;lymphocyte\na;1;x\n"))


@pytest.mark.parametrize("value", ["1_0", "nan", "inf", "1e2", "0x1", "1,5"])
def test_read_differentials_unusual_number_raises(tmp_path: Path, value: str) -> None:
    with pytest.raises(LabelledDataInvalid, match="line 2, neutrophil"):
        read_differentials(table(tmp_path, f'slide,neutrophil,lymphocyte\na,"{value}",3\n'))


def test_read_differentials_blank_cells_are_blank(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "slide,neutrophil,lymphocyte,\u00a0\na\u00a0,10,,,\n\u00a0,,,\n"))
    assert read["a"].percents == {CellClass.NEUTROPHIL: 100.0, CellClass.LYMPHOCYTE: 0.0}


def test_find_differentials_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "Differentials.CSV").touch()
    assert find_differentials(tmp_path) == tmp_path / "Differentials.CSV"


def test_read_differentials_empty_value_is_zero(tmp_path: Path) -> None:
    read = read_differentials(table(tmp_path, "slide,neutrophil,lymphocyte\na,10,\n"))
    assert read["a"].percents == {CellClass.NEUTROPHIL: 100.0, CellClass.LYMPHOCYTE: 0.0}

from contextlib import suppress
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest

from wbctool.datasets.laboratory_tables import Table, find_table, read_table
from wbctool.errors import LabelledDataInvalid, SettingsInvalid


def read(path: Path, content: str | bytes) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ("slide",), LabelledDataInvalid)


def write_excel(path: Path, rows: list[list[object]]) -> Path:
    pd.DataFrame(rows).to_excel(path, header=False, index=False)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "slide,age\na,7\n",
        "\ufeffSlide ; AGE\r\na;7\r\n",
        "slide\tage\na\t7\n",
        "sep=;\r\nslide;age\r\na;7\r\n",
        "SEP=\t\nslide\tage\na\t7\n",
        "\n\nslide,age\n\n,\na,7\n",
        '"slide","age"\n"a","7"\n',
        "slide,age,,\na,7,,\n",
        "slide,age\na,7,, ,\u00a0\n,,,,,\n",
        ";;\nslide;age;\na;7;;;\n",
        "\ufeff\ufeffslide\u00a0,\u200bage\na,7\n",
        "slide,age\ra,7\r",
        "slide,age\r\na,7\r\n\x1a",
        "slide\tage\r\na\t7\r\n".encode("utf-16"),
        b"\xfe\xff" + "slide;age\na;7\n".encode("utf-16-be"),
    ],
)
def test_read_table_in_any_dialect_gives_the_same_values(tmp_path: Path, content: str | bytes) -> None:
    table = read(tmp_path / "t.csv", content)
    assert table.columns == ("slide", "age")
    assert [row.values for row in table.rows] == [{"slide": "a", "age": "7"}]


def test_read_table_numbers_rows_by_their_line_in_the_file(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", 'sep=,\n\nslide,age\na,"1\n2"\n\nb,3\n')
    assert [row.line for row in table.rows] == [5, 7]


def test_read_table_keeps_a_line_sep_that_is_not_the_first(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "slide,note\na,sep=;\nb,x\n")
    assert [row.values["note"] for row in table.rows] == ["sep=;", "x"]


def test_read_table_of_a_short_row_leaves_columns_out(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "slide,age\na\n").rows[0].values == {"slide": "a"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [("slide;n\na;62,5\n", "62.5"), ('slide,n\na,"62,5"\n', "62,5"), ("slide\tn\na\t7,200\n", "7,200")],
)
def test_number_text_takes_a_comma_for_a_decimal_sign_only_beside_semicolons(
    tmp_path: Path, content: str, expected: str
) -> None:
    table = read(tmp_path / "t.csv", content)
    assert table.number_text(table.rows[0].values["n"]) == expected


@pytest.mark.parametrize(
    ("content", "location"),
    [
        ("", "line 1, slide: missing column"),
        ("\nname;AGE\nx;4\n", "line 2, slide: missing column 'slide'; the columns are 'name', 'age'"),
        ("slide,Age,age\n", "line 1, age: duplicate column"),
        ("slide\na,b\n", "line 2: more values than the header has columns: 'b'"),
        ("slide,age\na,7,\u00a0,x\n", "line 2: more values than the header has columns: 'x'"),
        ("slide,,age\na,,7\nb,x,7\n", "line 3: 'x' is in column 2, which has no name in the header"),
        (",slide\n0,a\n", "line 2: '0' is in column 1, which has no name"),
        ('slide\n"a\n', "line 2: invalid CSV"),
        (b"slide\na\nM\xfcller\n", "line 3: not UTF-8"),
        (b"slide,age\na,7\n" + bytes(512), "line 3: zero bytes"),
        ("slide,age\na,7\n".encode("utf-16-le"), "line 1: zero bytes"),
    ],
)
def test_read_table_that_is_wrong_names_file_and_line(tmp_path: Path, content: str | bytes, location: str) -> None:
    with pytest.raises(LabelledDataInvalid) as caught:
        read(tmp_path / "t.csv", content)
    assert str(caught.value).startswith(f"{tmp_path / 't.csv'}, {location}")


def test_read_table_of_excel_gives_texts_and_row_numbers(tmp_path: Path) -> None:
    path = write_excel(
        tmp_path / "t.xlsx", [[None, None, None], ["Slide", "age", "id"], ["a", 7, "001"], [None] * 3, ["b", 0.5, None]]
    )
    table = read_table(path, ("slide",), LabelledDataInvalid)
    assert [(row.line, row.values) for row in table.rows] == [
        (3, {"slide": "a", "age": "7", "id": "001"}),
        (5, {"slide": "b", "age": "0.5", "id": ""}),
    ]


def test_read_table_of_a_file_that_is_no_workbook_names_it(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"slide,age\n")
    with pytest.raises(LabelledDataInvalid, match=r"t\.xlsx: cannot be read as an Excel workbook"):
        read_table(tmp_path / "t.xlsx", ("slide",), LabelledDataInvalid)


def test_read_table_of_a_damaged_workbook_names_it(tmp_path: Path) -> None:
    """Of the bytes of a workbook that was not copied well, several libraries complain."""
    workbook = openpyxl.Workbook()
    for number in range(200):
        workbook.active.append([f"slide {number}", number])
    workbook.save(tmp_path / "whole.xlsx")
    content = (tmp_path / "whole.xlsx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=3):
            damaged[place] ^= 0x5A
        (tmp_path / "t.xlsx").write_bytes(damaged)
        with suppress(LabelledDataInvalid):
            read_table(tmp_path / "t.xlsx", ("slide 0",), LabelledDataInvalid)


def test_read_table_of_excel_ignores_blank_cells_and_refuses_values_without_a_column(tmp_path: Path) -> None:
    rows: list[list[object]] = [["slide", "age", None, " "], ["a", 7, "\u00a0", None], [" ", None, None, None]]
    table = read_table(write_excel(tmp_path / "t.xlsx", rows), ("slide",), LabelledDataInvalid)
    assert [row.values for row in table.rows] == [{"slide": "a", "age": "7"}]
    rows[1][2] = "anemia?"
    with pytest.raises(LabelledDataInvalid, match=r"line 2: 'anemia\?' is in column 3, which has no name"):
        read_table(write_excel(tmp_path / "t.xlsx", rows), ("slide",), LabelledDataInvalid)


def test_read_table_of_excel_gives_texts_as_they_are_shown_and_hides_no_error(tmp_path: Path) -> None:
    workbook = openpyxl.Workbook()
    workbook.active.append(["slide", "age", "patient", "dose", "NA"])
    workbook.active.append([7, "=50+4", "#N/A", 7.5, "NA"])
    workbook.active["A2"].number_format = "000"
    workbook.save(tmp_path / "t.xlsx")
    (row,) = read_table(tmp_path / "t.xlsx", ("slide",), LabelledDataInvalid).rows
    assert row.values == {"slide": "007", "age": "=50+4", "patient": "#N/A", "dose": "7.5", "na": "NA"}


@pytest.mark.parametrize("name", ["T.csv", "t.CSV", "T.XLSX"])
def test_find_table_in_any_case(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "t.csv.d").mkdir()
    assert find_table(tmp_path, "t", SettingsInvalid) == tmp_path / name


def test_find_table_ignores_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    assert find_table(tmp_path, "t", SettingsInvalid) is None
    assert find_table(tmp_path / "gone", "t", SettingsInvalid) is None


def test_find_table_prefers_csv_to_excel(tmp_path: Path) -> None:
    assert find_table(tmp_path, "t", SettingsInvalid) is None
    (tmp_path / "t.xlsx").touch()
    assert find_table(tmp_path, "t", SettingsInvalid) == tmp_path / "t.xlsx"
    (tmp_path / "t.csv").touch()
    assert find_table(tmp_path, "t", SettingsInvalid) == tmp_path / "t.csv"

"""slides.csv: what is read, what is refused by name, and what a run makes of it."""

import json
import logging
from pathlib import Path

import fakes
import pandas as pd
import pytest

from wbctool.errors import SettingsInvalid
from wbctool.pipeline.slides_csv import read_slides_csv
from wbctool.types.slides import Sex, SlideMetadata

HEADER = "slide,accession,patient,age,sex,analyser_wbc,objective,stain,um_per_px\n"


def read(tmp_path, text, slides=("s1", "a/s2")):
    (tmp_path / "slides.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_slides_csv(tmp_path, slides)


def test_without_table_returns_nothing(tmp_path):
    assert read_slides_csv(tmp_path, ["s1"]) == {}


def test_excel_workbook_is_read_if_there_is_no_csv(tmp_path):
    rows = [["Slide", "age", "accession"], ["s1", 54, "007"]]
    pd.DataFrame(rows).to_excel(tmp_path / "slides.xlsx", header=False, index=False)
    assert read_slides_csv(tmp_path, ["s1"]) == {"s1": SlideMetadata(age=54, accession="007")}
    assert read(tmp_path, "slide,age\ns1,40\n") == {"s1": SlideMetadata(age=40)}


def test_link_is_followed_and_broken_link_raises(tmp_path):
    (tmp_path / "slides.csv").symlink_to(tmp_path / "elsewhere.csv")
    with pytest.raises(SettingsInvalid, match=r"slides\.csv: the link leads to no file"):
        read_slides_csv(tmp_path, ["s1"])
    (tmp_path / "elsewhere.csv").write_text("slide,age\ns1,40\n")
    assert read_slides_csv(tmp_path, ["s1"])["s1"].age == 40


@pytest.mark.parametrize("name", ["Slides.csv", "SLIDES.CSV", "slides.Csv"])
def test_table_is_found_in_any_case(tmp_path, name):
    (tmp_path / name).write_text("slide,age\ns1,40\n")
    assert read_slides_csv(tmp_path, ["s1"]) == {"s1": SlideMetadata(age=40)}


def test_tables_that_differ_in_case_are_refused(tmp_path):
    for name in ("slides.csv", "Slides.csv"):
        (tmp_path / name).write_text("slide,age\ns1,40\n")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("the file system ignores case")
    with pytest.raises(SettingsInvalid, match=r"several tables of the name slides\.csv: Slides\.csv, slides\.csv"):
        read_slides_csv(tmp_path, ["s1"])


@pytest.mark.parametrize(
    ("names", "notices"),
    [
        (
            ["slides.xls", "Slides.ods"],
            ["Slides.ods is not read; save it as slides.csv or slides.xlsx", "slides.xls is not"],
        ),
        (["slides.csv", "slides.xlsx"], ["slides.xlsx is not read, because slides.csv is there"]),
        (["slides.csv", "slides.csv.txt"], ["slides.csv.txt is not read, because slides.csv is there"]),
        (["slides.csv", "slides.pdf", "~$slides.xlsx", "slides-old.csv"], []),
        (
            ["slide.csv", "Slides (1).csv", "slides - Kopie.xlsx", "slideshow.csv", "slides.pdf"],
            ["Slides (1).csv is not"] + ["slide"] * 2,
        ),
    ],
)
def test_tables_that_are_not_read_are_noticed(tmp_path, names, notices):
    for name in names:
        (tmp_path / name).write_text("slide\ns1\n")
    received = []
    read_slides_csv(tmp_path, ["s1"], received.append)
    assert len(received) == len(notices)
    assert all(text.startswith(start) for text, start in zip(received, notices, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "slide,age\ns1,40,,,\n,,,,\n",
        "slide,age,,\ns1,40,,\n,,,\n",
        ",slide,age\n,s1,40\n",
        ";;;\nslide;age;;\ns1;40;;\n;;;\n",
        "slide,age, ,\u00a0\ns1,40,\u00a0, \n",
        "\ufeff\ufeffslide\u00a0,\u200bage\ns1\u00a0, 40\u00a0\n",
        '"slide","age",""\n"s1","40",""\n"","",""\n',
        "slide\tage\t\t\ns1\t40\t\t\n\t\t\t\n",
    ],
)
def test_blank_cells_are_blank(tmp_path, text):
    received = []
    (tmp_path / "slides.csv").write_text(text)
    assert read_slides_csv(tmp_path, ["s1"], received.append) == {"s1": SlideMetadata(age=40)}
    assert received == []


def test_no_break_space_in_a_name_is_a_space(tmp_path):
    assert read(tmp_path, "slide,age\nward\u00a03/s1 ,40\n", ["ward 3/s1"]) == {"ward 3/s1": SlideMetadata(age=40)}


def test_row_without_a_slide_is_named(tmp_path):
    with pytest.raises(SettingsInvalid, match="line 3, slide: no slide is named"):
        read(tmp_path, "slide,age\ns1,40\n,41\n")


def test_every_column_is_read(tmp_path):
    found = read(tmp_path, HEADER + "a/s2,A-1,P 7,54.5,F,7.2,100x oil,MGG,0.1\ns1,,,,,,,,\n")
    assert found["a/s2"] == SlideMetadata("A-1", "P 7", 54.5, Sex.FEMALE, 7.2, "100x oil", "MGG", 0.1)
    assert found["s1"] == SlideMetadata()


def test_spreadsheet_with_bom_and_unknown_column_is_read(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    found = read(tmp_path, "\ufeffSlide; AGE ;ward\r\n'=1+1;17;7b\r\n\r\n", ["=1+1"])
    assert found == {"=1+1": SlideMetadata(age=17)}
    assert [r.getMessage().split(": ", 1)[1] for r in caplog.records] == ["columns ignored: ward"]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        *[(name, "analyser_wbc") for name in ("analyzer_wbc", "WBC", "Analyser WBC", "wbc (10^9/L)")],
        *[(name, "um_per_px") for name in ("um/px", "\u00b5m per px", "\u03bcm_per_px", "pixel size")],
        *[("Age (years)", "age"), ("gender", "sex"), ("ward", None), ("dosage", None), ("patient name", None)],
    ],
)
def test_column_that_seems_to_be_meant_for_another_is_noticed(tmp_path, column, meant):
    received = []
    (tmp_path / "slides.csv").write_text(f"slide,{column}\ns1,7\n")
    read_slides_csv(tmp_path, ["s1"], received.append)
    assert received == (
        [] if meant is None else [f"slides.csv: the column {column.lower()!r} is not read; did you mean {meant!r}?"]
    )
    (tmp_path / "slides.csv").write_text(f"slide,{column},age,sex,analyser_wbc,um_per_px\ns1,7,,,,\n")
    read_slides_csv(tmp_path, ["s1"], received.append)
    assert len(received) == (meant is not None)


def test_name_that_excel_keeps_as_text_is_read(tmp_path):
    assert read(tmp_path, 'slide,age\n"=""007""",40\n', ["007", "7"]) == {"007": SlideMetadata(age=40)}


@pytest.mark.parametrize(
    "text",
    [
        "slide;age;analyser_wbc\r\ns1;54;7,4\r\n",  # where the comma is the decimal sign
        "sep=;\r\nslide;age;analyser_wbc\r\ns1;54;7,4\r\n",
        'slide;age;analyser_wbc;"seen by, when"\r\ns1;54;7.4;"AB, noon"\r\n',
        "slide\tage\tanalyser_wbc\ns1\t54\t7.4\n",
        "\r\n\r\nslide,age,analyser_wbc\r\ns1,54,7.4\r\n",
        "slide;age;analyser_wbc;;\r\ns1;54;7,4;;\r\n;;;;\r\n",
    ],
)
def test_spreadsheets_of_other_locales_are_read(tmp_path, text):
    assert read(tmp_path, text) == {"s1": SlideMetadata(age=54, analyser_wbc=7.4)}


def test_error_names_the_line_of_the_file(tmp_path):
    with pytest.raises(SettingsInvalid, match="line 5, age: 'x'"):
        read(tmp_path, "sep=;\n\nslide;age\na/s2;4\ns1;x\n")


@pytest.mark.parametrize("name", ["ward e\u0301/x", "ward \u00e9\\x", "ward \u00e9/x/", " ward \u00e9/x"])
def test_slide_names_of_other_systems_are_resolved(tmp_path, name):
    assert read(tmp_path, f"slide,age\n{name},4\n", ["ward \u00e9/x", "s1"]).keys() == {"ward \u00e9/x"}


@pytest.mark.parametrize("name", ["s1 ", " s1", "s1/ ", '" s1	"'])
def test_spaces_around_an_unambiguous_name_are_ignored(tmp_path, name):
    assert read(tmp_path, f"slide,patient\n{name}, P-1 \n") == {"s1": SlideMetadata(patient="P-1")}


def test_ids_that_differ_by_spaces_stay_apart(tmp_path):
    slides = ["a", "a ", "b"]
    assert read(tmp_path, "slide,patient,age\na ,P-2,40\n", slides) == {"a ": SlideMetadata(patient="P-2", age=40)}
    found = read(tmp_path, "slide,patient\na ,P-2\na,P-1\n", slides)
    assert {id_: metadata.patient for id_, metadata in found.items()} == {"a ": "P-2", "a": "P-1"}
    with pytest.raises(SettingsInvalid, match="line 2, slide: ' a' could be 'a' or 'a '; write it as shown here"):
        read(tmp_path, "slide,patient\n a,P-1\n", slides)


def test_name_as_in_counts_csv_wins_over_the_plain_one(tmp_path):
    slides = ["'=x", "=x"]
    found = read(tmp_path, "slide,age\n'=x,1\n''=x,2\n", slides)
    assert {id_: metadata.age for id_, metadata in found.items()} == {"=x": 1, "'=x": 2}


def test_unreadable_folder_raises(tmp_path, monkeypatch):
    (tmp_path / "slides.csv").touch()

    def deny(path, **how):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", deny)  # as in a folder of mode 0444
    with pytest.raises(SettingsInvalid, match=r"slides\.csv: cannot be read: Permission denied"):
        read_slides_csv(tmp_path, ["s1"])


def test_ambiguous_name_raises(tmp_path):
    ids = ["\u00e9", "e\u0301"]
    assert read(tmp_path, "slide,age\n\u00e9,4\ne\u0301,5\n", ids) == {
        "\u00e9": SlideMetadata(age=4),
        "e\u0301": SlideMetadata(age=5),
    }
    with pytest.raises(SettingsInvalid, match="line 2, slide: '\u00e9/' could be "):
        read(tmp_path, "slide,age\n\u00e9/,4\n", ids)


@pytest.mark.parametrize("twice", ["'=1+1,4\n=1+1,5\n", "s1,4\ns1/,5\n"])
def test_duplicate_slide_raises(tmp_path, twice):
    with pytest.raises(SettingsInvalid, match=r"line 3, slide: .* is already in line 2"):
        read(tmp_path, f"slide,age\n{twice}", ["=1+1", "s1"])


def test_unknown_slides_are_one_warning(tmp_path, caplog):
    assert read(tmp_path, "slide,age\ngone,3\ns1,4\nlost,5\n").keys() == {"s1"}
    (warning,) = caplog.records
    assert warning.getMessage().endswith("names slides that do not exist: gone, lost")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("slide,age\ns1,4\na/s2,forty\n", "line 3, age: 'forty': "),
        ("slide,age\ns1,-1\n", "line 2, age: '-1': "),
        ("slide,age\ns1,nan\n", "line 2, age: 'nan': "),
        ("slide,age\ns1,1_0\n", "line 2, age: '1_0': "),
        ("slide;analyser_wbc\ns1;1.234,5\n", "line 2, analyser_wbc: '1.234,5': "),
        ("slide,sex\ns1,x\n", "line 2, sex: 'x': "),
        ("slide,analyser_wbc\ns1,7200\n", "line 2, analyser_wbc: '7200': "),
        ("slide,analyser_wbc\ns1,0\n", "line 2, analyser_wbc: '0': "),
        ('slide,um_per_px\ns1,"0,1"\n', "line 2, um_per_px: '0,1': "),
        ("slide,patient\ns1,a\x07b\n", "line 2, patient: 'a\\x07b': contains a control character"),
        ("slide,age\n,4\n", "line 2, slide: "),
        ("slide,age\ns1,4\ns1,5\n", "line 3, slide: s1 is already in line 2"),
        ("slide,age\ns1,4,5\n", "line 2: more values than the header has columns"),
        ("age\n4\n", "line 1, slide: missing column"),
        ("slide,age,Age\n", "line 1, age: duplicate column"),
        ("", "line 1, slide: missing column"),
        ("sep=;\n\nslide;age;Age\n", "line 3, age: duplicate column"),
        ("\n\nage\n4\n", "line 3, slide: missing column"),
        (b"slide,stain\ns1,gr\xfcn\n", "line 2: not UTF-8"),
        ('slide,age\ns1,"4\n', "invalid CSV"),
    ],
)
def test_invalid_table_names_the_place(tmp_path, text, place):
    with pytest.raises(SettingsInvalid) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'slides.csv'}")
    assert place in str(caught.value)


class TestRun:
    def slide_json(self, run, slide):
        return json.loads((run.folder / slide / "slide.json").read_text())

    def test_metadata_and_absolute_counts_are_in_slide_json(self, run):
        (run.root / "slides.csv").write_text("slide,patient,analyser_wbc,age\ns10,P1,11,40\n")
        assert run() == 0
        assert list(run.rows()) == ["s2", "s10"]
        assert "metadata" not in self.slide_json(run, "s2")
        state = self.slide_json(run, "s10")
        assert (state["metadata"]["patient"], state["metadata"]["accession"]) == ("P1", None)
        # one erythroblast beside ten counted cells: 11 × 100 / 110 = 10; nine neutrophils of ten: 9.0
        absolute = state["absolute_counts"]
        assert (absolute["analyser_wbc"], absolute["wbc"], absolute["corrected_for_nrbc"]) == (11, 10, True)
        assert absolute["classes"]["neutrophil"]["value"] == 9.0
        assert absolute["classes"]["neutrophil"]["reference_low"] == 2.0
        assert absolute["classes"]["neutrophil"]["flag"] == ""  # fewer than 100 cells
        assert "<td>9.00</td> <td>5.55 – 9.97</td>" in " ".join(
            (run.folder / "s10" / "report.html").read_text().split()
        )

    def test_range_flags_are_in_slide_json_and_on_the_index_page(self, run):
        (run.root / "slides.csv").write_text("slide,analyser_wbc,age\ns10,11,40\ns2,11,10\n")
        run(low_count_below=10)
        # nine neutrophils (9.0 × 10⁹/L) and one monocyte (1.0, within 0.2 to 1.0)
        assert self.slide_json(run, "s10")["out_of_range"] == {
            "neutrophil": {"percent": "high", "absolute": "high"},
            "lymphocyte": {"percent": "low", "absolute": "low"},
            "monocyte": {"percent": "high"},
        }
        assert "out_of_range" not in self.slide_json(run, "s2")  # a child
        page = (run.folder / "index.html").read_text()
        assert page.count('class="out-of-range">high, absolute high<') == 1
        run(low_count_below=10)
        assert run.looked == []
        assert (run.folder / "index.html").read_text() == page

    def test_changed_age_renders_that_slide_alone(self, run):
        (run.root / "slides.csv").write_text("slide,age\ns10,40\ns2,40\n")
        run()
        other = (run.folder / "s2" / "slide.json").stat().st_mtime_ns
        (run.root / "slides.csv").write_text("slide,age,ward\ns2,40,7\ns10,4,7\n")
        run()
        assert run.looked == []
        assert (run.folder / "s2" / "slide.json").stat().st_mtime_ns == other
        assert self.slide_json(run, "s10")["metadata"]["age"] == 4

    def test_age_decides_who_is_adult(self, run):
        fakes.draw_field(run.root / "child" / "f.png", ["neutrophil"])
        (run.root / "slides.csv").write_text("slide,age\ns10,18\nchild,17\n")

        def ranges(slide):
            return (run.folder / slide / "differential.csv").read_text().splitlines()[1].split(",")[5:7]

        run()
        assert [ranges(s) for s in ("s10", "child", "s2")] == [["45.00", "79.00"], ["", ""], ["", ""]]
        assert "Reference ranges: ARUP" in (run.folder / "s10" / "report.html").read_text()
        assert "Reference ranges" not in (run.folder / "child" / "report.html").read_text()
        run(adult=True)
        assert [ranges(s) for s in ("s10", "child", "s2")] == [["45.00", "79.00"], ["", ""], ["45.00", "79.00"]]

    def test_linked_table_is_read_and_not_reported_as_skipped(self, run, tmp_path, caplog):
        (tmp_path / "lab.csv").write_text("slide,age\ns10,40\n")
        (run.root / "slides.csv").symlink_to(tmp_path / "lab.csv")
        run()
        assert self.slide_json(run, "s10")["metadata"]["age"] == 40
        assert "skipped" not in caplog.text

    def test_invalid_value_stops_the_run_before_it_begins(self, run):
        (run.root / "slides.csv").write_text("slide,age\ns10,old\n")
        with pytest.raises(SettingsInvalid, match="age: 'old'"):
            run()
        assert not run.out.exists()

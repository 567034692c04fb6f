from dataclasses import replace

import fakes
import pytest

from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import COUNTS_COLUMNS, empty_row
from wbctool.report.index import IndexRow, render_index
from wbctool.store.counts_table import read_outcomes
from wbctool.types.results import FieldFailure, SlideStatus


def row(slide="s", status=SlideStatus.OK, link="s/report.html", failures=(), readers=()):
    return IndexRow(empty_row(slide, status, 4, fakes.provenance().classes, "low_count;nrbc"), link, failures, readers)


def test_index_failed_field_is_named_and_escaped():
    failure = FieldFailure("<s>", "f<1>.png", "read", "is <empty>")
    page = render_index([row('"><img src=x>', SlideStatus.PARTIAL, failures=[failure])])
    assert "<code>f&lt;1&gt;.png</code> (read): is &lt;empty&gt;" in page
    assert "<img" not in page
    assert "1 slide: 1 partial. 0 reviewed." in page


def test_index_reviewed_slide_is_marked_and_counted():
    page = render_index([row(readers=("AB", "C<D")), row("t")])
    assert "</span> AB, C&lt;D</td>" in page
    assert "2 slides: 2 ok. 1 reviewed." in page


def test_index_out_of_range_value_is_marked():
    counts = list(row().values)
    counts[COUNTS_COLUMNS.index("eosinophil_pct")] = "9.00"
    page = render_index([replace(row(), values=tuple(counts), out_of_range={"eosinophil": {"percent": "high"}})])
    assert '<b>9.00</b> <span class="soft">(0)</span> <b class="out-of-range">high</b></td>' in page
    assert page.count('class="out-of-range"') == 1


def test_index_notices_are_listed_and_escaped():
    page = render_index([row()], ["slides.csv names <b>", "x\x1b"])
    assert "<li>slides.csv names &lt;b&gt;</li>" in page
    assert "<li>x\\x1b</li>" in page
    assert 'id="notices"' not in render_index([row()])


def test_index_slide_without_report_has_no_link():
    page = render_index([row(link="")])
    assert "<a " not in page
    assert "no report" in page


def test_render_index_3000_rows_gives_same_bytes():
    rows = [row(f"slide-{i}") for i in range(3000)]
    page = render_index(rows)
    assert page == render_index(rows)
    assert page.count("<tr class=") == 3000


@pytest.mark.parametrize("name", ["a b#c?.d%20", "smear\udcff", "run.json"])
def test_index_link_quotes_slide_name(run, name):
    fakes.draw_field(run.root / name / "f.png", ["neutrophil"])
    run()
    page = (run.folder / "index.html").read_text()
    links = {"a b#c?.d%20": "a%20b%23c%3F.d%2520", "smear\udcff": "smear%FF", "run.json": "run.json~"}
    assert f'<a href="{links[name]}/report.html">' in page


def test_index_up_to_date_slide_keeps_its_row(run):
    (run.root / "s2" / "f1.png").write_bytes(b"")
    run()
    before = (run.folder / "index.html").read_bytes()
    assert b"f1.png" in before
    assert run() == 3
    assert run.looked == []
    assert (run.folder / "index.html").read_bytes() == before


def test_read_outcomes_returns_what_run_wrote(run):
    fakes.draw_field(run.root / "=1" / "f.png", ["neutrophil"])
    assert read_outcomes(OutputPaths(run.out)) is None
    run()
    outcomes = read_outcomes(OutputPaths(run.out))
    assert [outcome.slide for outcome in outcomes] == ["=1", "s2", "s10"]
    assert [outcome.row[0] for outcome in outcomes] == ["=1", "s2", "s10"]


def test_index_patient_column_only_if_patients_are_given(run):
    """A column that is there where slides.csv names a patient, also of a slide that is not done again."""
    (run.root / "slides.csv").write_text("slide,patient\ns10,P<1\n")
    run()
    page = (run.folder / "index.html").read_text()
    assert 'data-key="patient"' in page
    assert '<td data-value="P&lt;1">P&lt;1</td>' in page
    assert run() == 0
    assert run.looked == []
    assert (run.folder / "index.html").read_text() == page
    assert 'data-key="patient"' not in render_index([row()])

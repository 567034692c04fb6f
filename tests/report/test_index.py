import re
from dataclasses import replace

import fakes
import pytest

from wbctool.paths import OutputPaths
from wbctool.report.csv_tables import empty_row
from wbctool.report.index import IndexRow, render_index
from wbctool.store.counts_table import read_outcomes
from wbctool.types.results import FieldFailure, SlideStatus

UNFAMILIAR = "\u25b2 Check this slide Unfamiliar slide, not a differential yet"


def row(slide="s", status=SlideStatus.OK, link="s/report.html", failures=(), readers=()):
    return IndexRow(empty_row(slide, status, 4, fakes.provenance().classes, "low_count;nrbc"), link, failures, readers)


def test_index_failed_field_is_named_and_escaped():
    failure = FieldFailure("<s>", "f<1>.png", "read", "is <empty>")
    page = render_index([row('"><img src=x>', SlideStatus.PARTIAL, failures=[failure])])
    assert "<code>f&lt;1&gt;.png</code> (read): is &lt;empty&gt;" in page
    assert "<img" not in page
    assert "1 slide: 1 left to review." in page


def test_index_reviewed_slide_is_marked_and_counted():
    page = render_index([row(readers=("AB", "C<D")), row("t")])
    assert ">AB, C&lt;D</td>" in page
    assert "2 slides: 1 left to review, 1 reviewed." in page


def test_index_out_of_range_value_is_marked():
    counts = {**row().counts, "counted": "100", "eosinophil_pct": "9.00"}
    page = render_index([replace(row(), counts=counts, out_of_range={"eosinophil": {"percent": "high"}})])
    assert '<b>9.0</b> <span class="soft">(0)</span> <b class="out-of-range">high</b></td>' in page
    assert page.count('class="out-of-range"') == 1


def shown(page, class_name):
    """Return the text of the first cell of this class in the table."""
    return " ".join(re.sub(r"<[^>]+>", "", re.search(rf'<td class="{class_name}".*?</td>', page, re.DOTALL)[0]).split())


def changed(status=SlideStatus.OK, **values):
    """Return a row with these values of counts.csv."""
    return replace(row(status=status), counts=row(status=status).counts | values)


@pytest.mark.parametrize(
    ("status", "values", "result"),
    [
        (SlideStatus.OK, {"flags": ""}, "\u25cf No warnings"),
        (SlideStatus.OK, {"flags": "limited_count"}, "\u25cf No warnings"),
        (SlideStatus.OK, {"flags": "limited_count;nrbc"}, "\u25b2 Check this slide"),
        (SlideStatus.OK, {"flags": "unfamiliar"}, UNFAMILIAR),
        (SlideStatus.OK, {"flags": "", "review": "1"}, "\u25b2 Check this slide"),
        (SlideStatus.OK, {"flags": "low_count"}, "\u25b2 Check this slide Too few cells for a differential"),
        (SlideStatus.PARTIAL, {"flags": "failed_fields"}, "\u25b2 Check this slide partly analyzed"),
        (SlideStatus.FAILED, {"flags": "failed_fields"}, "\u2715 Not usable"),
        (SlideStatus.WAITING, {"flags": ""}, "\u25cb Waiting"),
    ],
)
def test_index_shows_the_severity_of_the_report(status, values, result):
    assert shown(render_index([changed(status, **values)]), "result") == result


@pytest.mark.parametrize(
    ("status", "values", "result"),
    [
        (SlideStatus.OK, {"flags": "low_count"}, "\u2713 Reviewed Too few cells for a differential"),
        (SlideStatus.OK, {"flags": "unfamiliar"}, "\u2713 Reviewed Unfamiliar slide"),
        (SlideStatus.OK, {"flags": "unfamiliar", "review": "1"}, UNFAMILIAR),
        (SlideStatus.PARTIAL, {"flags": "failed_fields"}, "\u2713 Reviewed partly analyzed"),
        (SlideStatus.FAILED, {"flags": "failed_fields"}, "\u2715 Not usable"),
    ],
)
def test_index_reviewed_slide_without_cells_in_review_is_done(status, values, result):
    assert shown(render_index([replace(changed(status, **values), readers=("AB",))]), "result") == result


def test_index_slide_with_possible_blasts_comes_first_by_result():
    page = render_index(
        [
            changed(SlideStatus.FAILED, flags="failed_fields"),
            changed(flags="unfamiliar;low_count;possible_blasts", review="2"),
            changed(flags="low_count"),
        ]
    )
    blasts = "\u25b2 Check this slide Possible blasts Unfamiliar slide, not a differential yet"
    assert shown(page[page.index('possible-blasts"') :], "result") == blasts
    assert re.findall(r'class="result" data-value="(\d)"', page) == ["1", "0", "2"]


@pytest.mark.parametrize(
    ("flags", "review", "value"),
    [("unfamiliar", "6", "20.0\u201350.0"), ("", "6", "28.6"), ("unfamiliar", "0", "28.6")],
)
def test_index_percentage_of_an_unfamiliar_slide_is_the_range_that_review_leaves_open(flags, review, value):
    """Of 14 counted cells 4 are neutrophils; with 6 more in review it is 4 to 10 of 20."""
    page = render_index([changed(flags=flags, counted="14", review=review, neutrophil_n="4", neutrophil_pct="28.57")])
    assert f'data-value="28.57"><b>{value}</b> <span class="soft">(4)</span>' in page


def test_index_of_several_statuses_counts_each():
    page = render_index([row(), row(status=SlideStatus.FAILED), row(status=SlideStatus.WAITING)])
    assert "3 slides: 1 left to review, 1 failed, 1 waiting." in page


def test_index_percentage_is_rounded_once_as_in_the_report():
    page = render_index([changed(counted="104", neutrophil_n="69", neutrophil_pct="66.35")])  # 66.346
    assert "<b>66.3</b>" in page


def test_index_flags_are_words_below_the_slide():
    assert '<span title="low_count">low count</span>, <span title="nrbc">nrbc</span></span>\n</th>' in render_index(
        [row()]
    )


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
    assert [outcome.counts["slide"] for outcome in outcomes] == ["=1", "s2", "s10"]


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

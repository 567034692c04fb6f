import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import fakes
import numpy as np
import pytest
from PIL import Image

from wbctool.imaging.thumbnails import make_cell_thumbnail, make_field_thumbnail, make_super_resolved_thumbnail
from wbctool.labels import CellClass, Subtype
from wbctool.limits import Limits
from wbctool.report.flag_texts import FLAG_TEXTS, SCAN_FLAG_TEXTS
from wbctool.report.gallery import (
    MAX_BYTES,
    MAX_CELLS_PER_CLASS,
    MAX_FIELDS,
    MAX_REVIEW_BYTES,
    REVIEW_GROUPS,
    keep_shown,
)
from wbctool.report.html import render_report
from wbctool.report.summary import find_result_severity, limitations, metadata_rows, summary_sentence
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.differential import count_cells
from wbctool.types.cells import Box, Cell, Crop, Detection, Field, Reason
from wbctool.types.differential import Flag
from wbctool.types.results import (
    CellThumbnails,
    FieldFailure,
    FieldThumbnail,
    Review,
    ReviewNote,
    SlideResult,
    SlideStatus,
)
from wbctool.types.scans import PassedOver, ScanSummary
from wbctool.types.slides import Familiarity, FieldQuality, SlideMetadata

NATIVE = make_cell_thumbnail(Crop(np.full((40, 40, 3), 120, np.uint8)))
SUPER_RESOLVED = make_super_resolved_thumbnail(np.full((128, 128, 3), 130, np.uint8))


class Checker(HTMLParser):
    """Collects text, links and attributes of a page, and checks that every element is closed."""

    VOID = frozenset({"meta", "img", "br", "rect", "path", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        links = [value for name, value in attrs if name in {"src", "href"} and not value.startswith("#")]
        self.links += [link for link in links if not link.endswith("/index.html")]
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)


def result_of(
    names, slide="ward/s1", failures=(), status=SlideStatus.OK, known=tuple(CellClass), field="f.png", **limits
):
    """Return a slide of three fields; its cells have the classes ``names`` and are all in one field."""
    predictions = [fakes.predict(name) for name in names]
    predictions = [replace(p, probabilities=p.probabilities[: len(known)]) for p in predictions]
    cells = tuple(
        Cell(field, i, Detection(Box(0, 0, 9, 9), 0.9), True, prediction) for i, prediction in enumerate(predictions, 1)
    )
    differential = count_cells(predictions, known, Limits(**limits))
    thumbnails = (CellThumbnails(NATIVE, SUPER_RESOLVED),) * len(cells)
    field_thumbnail = make_field_thumbnail(Field(field, np.full((48, 64, 3), 200, np.uint8)))
    return SlideResult(slide, status, 3, tuple(failures), cells, thumbnails, differential, (field_thumbnail,))


def read(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(link.startswith(("data:image/webp;base64,", "data:image/jpeg;base64,")) for link in checker.links)
    assert not {name for name in checker.attributes if name.startswith("on") or name == "style"}
    return " ".join(" ".join(checker.text).split()), checker.links


def report(names, known=tuple(CellClass), **options):
    page = render_report(result_of(names, known=known, **options), fakes.provenance(known))
    return page, *read(page)


def test_report_verdict_and_flags_precede_table():
    page, text, _ = report(["neutrophil"] * 120 + ["review"] * 24)
    verdict = "Differential of 120 counted cells; 24 more in review."
    assert page.index(verdict) < page.index('<strong title="limited_count">limited count') < page.index("<table")
    assert "high review share" in text
    assert "Check this slide" in text


def test_verdict_too_few_cells_is_no_differential():
    assert (
        "Too few cells for a differential: 20 counted; 4 more in review." in report(["basophil"] * 20 + ["odd"] * 4)[1]
    )


@pytest.mark.parametrize("counted", [29, 30])
def test_script_data_summary_texts_give_python_verdict(counted):
    """A reader may cross the threshold; the script then shows the verdict that an applied review shows."""
    settings = (("super_resolve", "auto"), ("low_count_below", "30"))
    result = result_of(
        ["neutrophil"] * counted, low_count_below=30, failures=[FieldFailure("ward/s1", "g", "read", "?")]
    )
    data = page_data(render_report(result, replace(fakes.provenance(), settings=settings)))
    assert data["low_count_below"] == 30
    sentence = data["texts"]["verdict"]["low_count" if counted < data["low_count_below"] else "counted"]
    assert sentence.format(
        counted=counted, failed_fields=data["texts"]["verdict"]["failed_fields"], in_review=""
    ) == summary_sentence(result)


@pytest.mark.parametrize("counted", [1, 99, 100, 500])
def test_low_count_threshold_setting_missing_keeps_verdict(counted):
    data = page_data(render_report(result_of(["neutrophil"] * counted), fakes.provenance()))
    assert (counted < data["low_count_below"]) == (counted < 100)


def test_verdict_slide_failure_is_not_counted_as_field():
    result = result_of(["neutrophil"] * 5, failures=[FieldFailure("ward/s1", "", "report", "?")])
    assert page_data(render_report(result, fakes.provenance()))["texts"]["verdict"]["failed_fields"] == ""


def page_data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


@pytest.mark.parametrize(("age", "shown"), [(0.0, "0"), (0.5, "0.5"), (71, "71")])
def test_metadata_age_zero_is_shown(age, shown):
    metadata = SlideMetadata(patient="P-7", age=age, stain="")
    result = replace(result_of(["neutrophil"]), metadata=metadata)
    assert metadata_rows(result) == [("patient", "P-7"), ("age", shown)]
    assert f"patient P-7 age {shown} " in read(render_report(result, fakes.provenance()))[0]


def test_report_no_flags_says_so():
    assert "No warnings Not reviewed Differential of 200 counted cells." in report(["neutrophil"] * 200)[1]


def unfamiliar(names, **limits):
    """Return a slide of these cells that is unlike those of the training."""
    result = result_of(names)
    predictions = [cell.prediction for cell in result.cells]
    return replace(result, differential=count_cells(predictions, tuple(CellClass), Limits(**limits), {"unfamiliar"}))


def test_report_unfamiliar_slide_says_so_first_and_what_to_do():
    page = render_report(unfamiliar(["neutrophil"] * 120 + ["review"] * 24), fakes.provenance())
    verdict = "Unfamiliar slide, not a differential yet: 120 cells were sure enough to count; 24 more in review."
    assert page.index(verdict) < page.index('<strong title="unfamiliar">') < page.index("<table")
    assert "run: wbctool label, then wbctool adapt. To test them: wbctool verify" in read(page)[0]


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        ([], "Unfamiliar slide: 26 counted, 17 of them named by a reader."),
        (
            ["review"],
            "Unfamiliar slide, not a differential yet: 26 counted, 17 of them named by a reader; 1 more in review.",
        ),
    ],
)
def test_report_reviewed_unfamiliar_slide_counts_the_cells_that_a_reader_named(left, verdict):
    """Cells that a reader called artifacts, or only commented on, are not among them."""
    result = unfamiliar(["neutrophil"] * 26 + ["platelet"] + left)
    notes = [ReviewNote(row, "review") for row in range(1, 18)]
    notes += [ReviewNote(18, "neutrophil", "fine"), ReviewNote(27, "review")]
    review = Review("AB", "2026-01-02T03:04:05+00:00", 18, "", "ab" * 32)
    result = replace(result, reviews=(review,), notes=tuple(notes))
    page = render_report(result, fakes.provenance())
    assert f'id="verdict">{verdict}</p>' in page
    assert ("percentages are biased" in page) == bool(left)
    assert ("Classify the cells in review" in page) == bool(left)
    data = page_data(page)
    assert data["tool_categories"]["17"] == "review"
    assert data["texts"]["verdict"]["low_count"] == data["texts"]["verdict"]["moved"]


def test_report_reason_of_held_back_cells_says_whether_the_slide_is_known_to_be_unfamiliar():
    def reasons(result):
        prediction = replace(result.cells[0].prediction, reason=Reason.UNFAMILIAR_SLIDE)
        held_back = replace(result, cells=(replace(result.cells[0], prediction=prediction),))
        return re.findall(r'class="reason">([^<]*)<', render_report(held_back, fakes.provenance()))

    assert reasons(unfamiliar(["review"])) == ["unfamiliar slide"]
    assert reasons(result_of(["review"])) == ["small slide: stricter rule"]


def test_report_shows_the_diameter_of_a_cell_if_it_is_known():
    result = result_of(["neutrophil"] * 2)
    measured = replace(result, cells=(replace(result.cells[0], diameter_um=14.25), result.cells[1]))
    page = render_report(measured, fakes.provenance())
    assert re.findall(r'class="soft diameter">([^<]*)<', page) == ["14.2 µm"]


def test_report_unfamiliar_slide_leads_with_the_range_that_review_leaves_open():
    def headings(result):
        page = render_report(result, fakes.provenance())
        table = page[page.index('<table id="differential">') :]
        columns = re.findall(r'<td data-value="([a-z0-9-]+)">', table[: table.index("</tr>", table.index("<tbody"))])
        return columns, re.findall(r'<th scope="col">([^<]*)</th>', table)[:3]

    names = ["neutrophil"] * 120 + ["review"] * 24
    first = "range after review"
    assert headings(unfamiliar(names)) == (["review-range", "n", "percent", "ci"], ["class", first, "n"])
    assert headings(result_of(names)) == (["n", "percent", "ci", "review-range"], ["class", "n", "percent"])


def test_report_unfamiliar_slide_has_no_high_or_low_marks():
    limits = {"reference_ranges": {CellClass.NEUTROPHIL: (40, 70)}, "reference_source": "own", "adult": True}
    names = ["neutrophil"] * 120
    marked = count_cells([fakes.predict(name) for name in names], tuple(CellClass), Limits(**limits))
    assert [count.flag for count in marked.classes if count.flag] == ["high"]
    result = unfamiliar(names, **limits)
    assert not any(count.flag for count in result.differential.classes)
    assert (
        "range-flag" not in render_report(result, fakes.provenance()).partition("</style>")[2].partition("<script")[0]
    )
    counted = add_absolute_counts(result.differential, 30.0, Limits(**limits))
    assert not any(count.absolute.flag for count in counted.classes if count.absolute)


def test_severity_value_out_of_range_is_check():
    high = result_of(["neutrophil"] * 240 + ["lymphocyte"] * 10, adult=True)
    assert not high.differential.flags
    assert find_result_severity(high) == "check"
    few = result_of(["neutrophil"] * 120 + ["lymphocyte"] * 80)
    few = replace(few, differential=add_absolute_counts(few.differential, 0.8, Limits(adult=True)))
    assert find_result_severity(few) == "check"
    text, _ = read(render_report(few, fakes.provenance()))
    assert "neutrophil absolute low : Neutrophil low: 0.48 × 10⁹/L, reference 2 to 7.5." in text


def test_severity_limited_count_alone_is_clear():
    limited = result_of(["neutrophil"] * 150)
    assert limited.differential.flags == (Flag.LIMITED_COUNT,)
    assert find_result_severity(limited) == "clear"


def test_report_reviewed_slide_without_cells_in_review_says_reviewed_and_keeps_its_color():
    def severity_line(names):
        review = Review("AB", "2026-01-02T03:04:05+00:00", 0, "", "ab" * 32)
        page = render_report(replace(result_of(names), reviews=(review,)), fakes.provenance())
        banner = page[page.index('<div class="banner') : page.index('<p class="verdict')]
        return re.search(r'"banner (\w+)"', banner)[1], read(banner + "</div>")[0]

    assert severity_line(["neutrophil"] * 200) == ("clear", "\u2713 Reviewed by AB")
    assert severity_line(["neutrophil"] * 5) == ("check", "\u2713 Reviewed by AB")
    assert severity_line(["review"]) == ("check", "\u25b2 Check this slide \u2713 Reviewed by AB")


@pytest.mark.parametrize(("settings", "needed"), [((), "200"), ((("limited_count_below", "300"),), "300")])
def test_report_limited_count_says_how_many_cells_were_counted_and_are_needed(settings, needed):
    page = render_report(result_of(["neutrophil"] * 150), replace(fakes.provenance(), settings=settings))
    assert f"150 cells were counted; a reference differential needs {needed}. Add fields" in page


def test_report_failed_slide_does_not_ask_for_more_fields():
    failures = [FieldFailure("ward/s1", f"f{i}.png", "read", "?") for i in range(3)]
    assert "Add fields" in report([])[1]
    assert "Add fields" not in report([], status=SlideStatus.FAILED, failures=failures)[1]


def test_report_findings_are_separate_from_limits():
    page, text, _ = report(["neutrophil"] * 90 + ["immature_granulocyte"] * 10, adult=True)
    assert "Findings neutrophil high : Neutrophil high: 90.0 %, reference 45 to 79 %." in text
    texts = ("immature granulocytes</strong>", "Limits of this count", ">limited count<")
    assert sorted(texts, key=page.index) == list(texts)


def test_report_verdict_links_to_cells_that_must_not_be_missed():
    result = result_of(["odd"] * 3 + ["immature_granulocyte"] * 2 + ["erythroblast", "neutrophil"])
    cells = tuple(
        replace(cell, prediction=cell.prediction.sent_to_review(Reason.POSSIBLE_BLAST)) if cell.index <= 3 else cell
        for cell in result.cells
    )
    differential = count_cells([cell.prediction for cell in cells], tuple(CellClass), Limits())
    page = render_report(replace(result, cells=cells, differential=differential), fakes.provenance())
    links = re.findall(r'<a href="#(group-[^"]+)">([^<]+)</a>', page)
    assert links == [
        ("group-review-possible_blast", "Possible blasts: 3"),
        ("group-immature_granulocyte", "Immature granulocytes: 2"),
        ("group-erythroblast", "Nucleated red cells: 1"),
    ]
    for group, text in links:
        shown = page[page.index(f'id="{group}"') :]
        assert shown[: shown.index("</ul>")].count('class="cell"') == int(text[-1])
    assert "#group-" not in report(["neutrophil"])[0]


def test_flag_texts_cover_all_flags():
    assert tuple(FLAG_TEXTS) == tuple(Flag)
    assert SCAN_FLAG_TEXTS.keys() <= set(Flag)


@pytest.mark.parametrize(
    ("looked_at", "remedy"), [(8, "run again with --cells N for more cells"), (10, "scan more of the smear")]
)
def test_report_of_a_scan_says_how_to_count_more_cells(looked_at, remedy):
    scan = ScanSummary("s1.svs", (), zones=30, zones_looked_at=looked_at, passed_over={PassedOver.EMPTY: 20})
    text, _ = read(render_report(replace(result_of(["neutrophil"] * 50), scan=scan), fakes.provenance()))
    assert remedy in text
    assert "Add fields" not in text
    assert "Add fields" in report(["neutrophil"] * 50)[1]


def test_differential_table_shows_percent_and_interval():
    _, text, _ = report(["neutrophil"] * 9 + ["lymphocyte"] * 91)
    assert "neutrophil 9 9.0 4.2 – 16.4 9.0 – 9.0" in text


def test_differential_table_shows_review_range():
    _, text, _ = report(["neutrophil"] * 6 + ["lymphocyte"] * 2 + ["review"] * 2)
    assert "lymphocyte 2 25.0 3.2 – 65.1 20.0 – 40.0" in text


@pytest.mark.parametrize(("slide", "link"), [("s1", "../index.html"), ("ward 3/a/s1", "../../../index.html")])
def test_report_links_to_the_index_from_any_depth(slide, link):
    page, *_ = report(["neutrophil"], slide=slide)
    assert re.findall(r'href="([^"]*index.html)"', page) == [link]


def test_report_states_its_limits():
    _, text, _ = report([])
    assert "have no class of their own: some are counted as other classes, so neither can be excluded. Research" in text
    assert "cover sampling error only" in text
    assert "Research use only" in text


def test_gallery_review_first_and_each_cell_once():
    page, _, links = report(["neutrophil", "review", "platelet"])
    assert len(links) == 2 * 3 + 1  # native and super-resolved each, and their field
    assert page.index('id="cell-2"') < page.index('id="cell-1"') < page.index('id="cell-3"')
    assert (
        page.index('id="heading-review"') < page.index('id="heading-neutrophil"') < page.index('id="heading-platelet"')
    )


def test_differential_unknown_class_is_not_assessed():
    _, text, _ = report(["neutrophil"], known=tuple(CellClass)[:4])
    assert "basophil not assessed" in text
    assert "NRBC per 100 white cells not assessed" in text


def test_report_failed_field_is_named_with_cause():
    failure = FieldFailure("s", "f<3>.png", "read", "the file is <empty>")
    _, text, _ = report(["neutrophil"], failures=[failure], status=SlideStatus.PARTIAL)
    assert "f<3>.png (read): the file is <empty>" in text
    assert "without 1 of 3 fields" in text


def test_report_duplicate_field_names_the_first():
    result = result_of(["neutrophil"], duplicate_correlation=0.5)
    twin = FieldQuality("b<.png", None, None, None, None, None, None, duplicate_of="a.png")
    text, _ = read(render_report(replace(result, quality=(twin,)), fakes.provenance()))
    assert "Fields to check" in text
    assert "b<.png : shows the same cells as a.png" in text.replace("b<.png:", "b<.png :")


@pytest.mark.parametrize(("field", "advice"), [("a.png", False), ("b.png", True)])
def test_report_asks_to_remove_duplicates_only_if_their_cells_are_counted_twice(field, advice):
    result = result_of(["neutrophil"], field=field)
    differential = replace(result.differential, flags=(Flag.DUPLICATE_FIELDS, Flag.OVERLAPPING_FIELDS))
    twin = FieldQuality("b.png", None, None, None, None, None, None, duplicate_of="a.png")
    limits = dict(limitations(replace(result, quality=(twin,), differential=differential), fakes.provenance()))
    assert ("Remove the duplicates" in limits[Flag.DUPLICATE_FIELDS]) is advice
    assert ("was counted once" in limits[Flag.DUPLICATE_FIELDS]) is not advice


def test_report_fields_to_check_name_value_and_limit_and_link_to_their_image():
    plain = dict.fromkeys(("blur_um", "blur_px", "coverage", "background_color", "cell_color", "stain_delta_e"))
    stained = FieldQuality("f.png", **{**plain, "stain_delta_e": 5.2}, red_cell_um=None, stain_out_of_range=True)
    crowded = FieldQuality("g.png", **{**plain, "coverage": 0.7}, red_cell_um=None, crowded=True)
    result = replace(result_of(["neutrophil"]), quality=(stained, crowded))
    settings = (("max_coverage", "0.62"), ("max_stain_delta_e", "5.0"))
    page = render_report(result, replace(fakes.provenance(), settings=settings))
    text, _ = read(page)
    unlike = (
        "colors unlike those of the laboratories that the models know: ΔE 5.2, limit 5; check stain and white balance"
    )
    assert f"g.png : crowded: cells cover 70 % of the field, limit 62 % f.png : {unlike}" in text
    assert '<a href="#field-0"><code>f.png</code></a>' in page
    assert "<li><code>g.png</code>" in page  # it has no cell, and so no image
    text, _ = read(render_report(result, fakes.provenance()))
    assert "ΔE 5.2; check stain" in text  # no settings are recorded


def test_report_fields_with_the_same_remark_share_a_line_with_the_range_of_their_values():
    plain = dict.fromkeys(("blur_um", "blur_px", "coverage", "background_color", "cell_color", "stain_delta_e"))
    values = {"f.png": 27.61, "<g>.png": 5.3, "h.png": 9.0}
    stained = [
        FieldQuality(name, **{**plain, "stain_delta_e": value}, red_cell_um=None, stain_out_of_range=True)
        for name, value in values.items()
    ]
    crowded = FieldQuality("h.png", **{**plain, "coverage": 0.7}, red_cell_um=None, crowded=True)
    result = replace(result_of(["neutrophil"]), quality=(*stained, crowded))
    page = render_report(result, replace(fakes.provenance(), settings=(("max_stain_delta_e", "5.0"),)))
    text, _ = read(page)
    unusual = "3 fields with unusual colors (ΔE 5.3 to 27.6, limit 5; check stain and white balance):"
    crowd = "h.png : crowded: cells cover 70 % of the field"
    assert f"4 in all {crowd} {unusual} f.png , <g>.png , h.png" in text
    assert '<a href="#field-0"><code>f.png</code></a>, <code>&lt;g&gt;.png</code>' in page


@pytest.mark.parametrize(("cells", "decision", "is_shown"), [(9, None, True), (0, None, False), (20, True, False)])
def test_report_small_slide_says_why_a_stricter_rule_holds(cells, decision, is_shown):
    result = replace(result_of(["neutrophil"] * 9), familiarity=Familiarity(cells, 1.0, 2.0, decision))
    text, _ = read(render_report(result, fakes.provenance()))
    assert ("small slide : With 9 cells, it cannot be judged whether" in text) == is_shown


def test_report_long_list_of_fields_is_folded():
    quality = tuple(
        FieldQuality(f"{i}.png", None, None, None, None, None, None, duplicate_of="a.png") for i in range(9)
    )
    for number, start in ((8, "<details open><summary>8 in all"), (9, "<details><summary>9 in all")):
        page = render_report(replace(result_of(["neutrophil"]), quality=quality[:number]), fakes.provenance())
        assert start in page


def test_report_implausible_scale_is_remarked_once():
    plain = dict.fromkeys(("blur_um", "blur_px", "coverage", "background_color", "cell_color", "stain_delta_e"))
    quality = tuple(FieldQuality(f"{i}.png", **plain, red_cell_um=100.0 + i, scale_mismatch=True) for i in range(3))
    remark = " : um_per_px must be wrong, as it makes red cells 101.0 µm wide; correct it and run again"
    for source, metadata in (("slides.csv", SlideMetadata(um_per_px=3.0)), ("metadata of the images", None)):
        result = replace(result_of(["neutrophil"]), quality=quality, metadata=metadata)
        text, _ = read(render_report(result, fakes.provenance()))
        assert text.replace(f"{source}:", f"{source} :").count(source + remark) == 1


def test_absolute_counts_correction_is_shown_only_if_made():
    for names, corrected in ((["neutrophil"] * 100, False), (["neutrophil"] * 100 + ["erythroblast"] * 25, True)):
        result = result_of(names)
        counted = add_absolute_counts(result.differential, 10.0, Limits(adult=True))
        text, _ = read(render_report(replace(result, differential=counted), fakes.provenance()))
        assert ("Corrected to 8.00 × 10⁹/L" in text) == corrected
        assert ("Corrected" in text) == corrected
        assert ". Reference ranges: UK" in text


def test_verdict_failed_slide_says_so():
    _, text, _ = report([], failures=[FieldFailure("s", "f", "read", "empty")] * 3, status=SlideStatus.FAILED)
    assert "Failed: no field of this slide could be analyzed." in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a\x1b[31m\nb", "x\udcff"])
def test_report_hostile_name_is_escaped(name):
    page, _, _ = report(["neutrophil"], slide=name, field=name)
    page.encode("utf-8")
    assert page.count("<script") == 2  # the data and our own
    assert "<img src=x" not in page
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["slide"] == name
    assert "\x1b" not in page


def test_report_names_version_device_and_models():
    _, text, _ = report([])
    assert "wbctool 0.0.test, CPU, fp32" in text
    assert "fake 1 ( classifier.onnx , SHA-256 " + "ab" * 32 in text


def test_render_report_same_result_gives_same_bytes():
    assert report(["neutrophil", "review"])[0] == report(["neutrophil", "review"])[0]


def test_report_blast_notice_precedes_table():
    page, _, _ = report(["neutrophil"] * 200)
    assert page.index("can be excluded") < page.index("<table")


def test_tile_shows_second_most_probable_class():
    assert "monocyte 0.40 then neutrophil 0.09 low confidence f.png, cell 1" in report(["review"])[1]


def test_gallery_large_class_is_limited_and_says_so():
    page, text, links = report(["neutrophil"] * (MAX_CELLS_PER_CLASS + 7) + ["monocyte"])
    assert f"7 more are not shown; these {MAX_CELLS_PER_CLASS} are the least certain" in text
    assert len(links) == 2 * (MAX_CELLS_PER_CLASS + 1) + 1
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["cells"]) == MAX_CELLS_PER_CLASS + 8


def render_large_slide(*args):
    """Render the result of :func:`large_result`."""
    return render_report(large_result(*args), fakes.provenance())


def large_result(names, cells_per_field, native, super_resolved, field_jpeg):
    """Return a slide whose cells all have the same thumbnails, and so have its fields."""
    field_names = [f"{i // cells_per_field}.png" for i in range(len(names))]
    predictions = [fakes.predict(name) for name in names]
    cells = [
        Cell(f, 1, Detection(Box(0, 0, 9, 9), 0.9), True, p) for f, p in zip(field_names, predictions, strict=True)
    ]
    fields = tuple(FieldThumbnail(name, 640, 480, field_jpeg) for name in dict.fromkeys(field_names))
    thumbnails = (CellThumbnails(native, super_resolved),) * len(names)
    return replace(
        result_of(names), fields=len(fields), cells=tuple(cells), thumbnails=thumbnails, field_thumbnails=fields
    )


def noisy_webp(side_px, quality, sigma=40):
    """Return noise as WebP; with a sigma of 40 it is larger than the thumbnails of real cells."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(150, sigma, (side_px, side_px, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def count_images(page):
    return {
        kind: len(re.findall(rf'<img id="{kind}-\d+" src="data:image/(?:webp|jpeg);base64,[^"]', page))
        for kind in ("native", "super-resolved", "field")
    }


def test_report_thousands_of_fields_has_bounded_size(real_jpeg):
    fields = 3000
    rgb = np.asarray(Image.open(real_jpeg))
    overview, native = (
        make_field_thumbnail(Field("", rgb)).jpeg,
        make_cell_thumbnail(Crop(np.ascontiguousarray(rgb[:128, :128]))),
    )
    page = render_large_slide([fakes.NAMES[i % 6] for i in range(fields)], 1, native, b"", overview)
    assert count_images(page) == {"native": 6 * MAX_CELLS_PER_CLASS, "super-resolved": 0, "field": MAX_FIELDS}
    assert f"Fields not shown, although some of their cells are: {6 * MAX_CELLS_PER_CLASS - MAX_FIELDS}." in page
    assert f"Cells not shown: {fields - 6 * MAX_CELLS_PER_CLASS}." in page
    assert len(page) < 10e6


@pytest.mark.parametrize("names", [["review"], ["neutrophil"], ["review", "neutrophil", "platelet"]])
def test_report_large_thumbnails_has_bounded_size(names):
    cell, field = noisy_webp(128, 82), noisy_webp(480, 50)
    cells = 10_000
    page = render_large_slide([names[i % len(names)] for i in range(cells)], 5, cell, cell, field)
    assert len(page) < MAX_BYTES + 400 * cells + (MAX_REVIEW_BYTES if "review" in names else 0)
    found = count_images(page)
    assert f"Cells not shown: {cells - found['native']}." in page
    assert found["native"] >= 200
    if "review" in names:
        assert found["native"] * len(cell) > 0.6 * MAX_REVIEW_BYTES  # as many as there is room for
        in_review = sum(names[i % len(names)] == "review" for i in range(cells))
        missing = in_review - count_images(review_section(page))["native"]
        assert f"{missing} more are not shown and cannot be classified on this page" in page


def review_section(page):
    """Return the part of a page with the cells in review."""
    return page[page.index('id="category-review"') : page.index('id="category-neutrophil"')]


def test_gallery_thousands_in_review_are_all_shown(real_jpeg):
    rgb = np.asarray(Image.open(real_jpeg))
    native = make_cell_thumbnail(Crop(np.ascontiguousarray(rgb[:128, :128])))
    page = render_large_slide(["review", "odd"] * 1250, 10, native, b"", b"")
    assert count_images(review_section(page))["native"] == 2500
    assert "Cells not shown" not in page


def test_review_groups_are_the_proposed_classes_and_unlike_cells_come_first():
    predictions = [fakes.predict(name) for name in ("review", "odd", "odd", "review")]
    other = replace(predictions[2], label=CellClass.NEUTROPHIL, confidence=0.99)
    result = result_of(["review", "odd", "odd", "review"])
    cells = [replace(cell, prediction=p) for cell, p in zip(result.cells, predictions, strict=True)]
    cells[2] = replace(cells[2], prediction=other)
    cells[3] = replace(cells[3], prediction=replace(predictions[3], label=CellClass.LYMPHOCYTE))
    page = render_report(replace(result, cells=tuple(cells)), fakes.provenance())
    assert rows_by_group(page) == {"out_of_distribution": [2, 3], "lymphocyte": [4], "monocyte": [1]}


def test_review_group_of_possible_blasts_is_by_confidence_whatever_the_labels():
    labels = (CellClass.NEUTROPHIL, CellClass.MONOCYTE, CellClass.LYMPHOCYTE)
    predictions = [
        replace(fakes.predict("review"), label=label, confidence=confidence, reason=Reason.POSSIBLE_BLAST)
        for label, confidence in zip(labels, (0.9, 0.5, 0.7), strict=True)
    ]
    result = result_of(["review"] * 3)
    cells = [replace(cell, prediction=p) for cell, p in zip(result.cells, predictions, strict=True)]
    page = render_report(replace(result, cells=tuple(cells)), fakes.provenance())
    assert rows_by_group(page) == {"possible_blast": [2, 3, 1]}


@pytest.mark.parametrize(("reason", "is_shown"), [(Reason.POSSIBLE_BLAST, False), (Reason.LOW_CONFIDENCE, True)])
def test_tile_shows_no_subtype_of_a_class_that_is_not_to_be_relied_on(reason, is_shown):
    result = result_of(["review"])
    band = replace(result.cells[0].prediction, label=CellClass.NEUTROPHIL, subtype=Subtype.BAND, reason=reason)
    page = render_report(replace(result, cells=(replace(result.cells[0], prediction=band),)), fakes.provenance())
    assert ("band (research)" in review_section(page)) is is_shown


def rows_by_group(page):
    """Return the rows of the cells in each group of the review that has any."""
    parts = re.split(r'id="group-review-(\w+)"', review_section(page))[1:]
    assert parts[::2] == list(REVIEW_GROUPS)
    rows = {
        name: [int(row) for row in re.findall(r'data-row="(\d+)"', part)]
        for name, part in zip(parts[::2], parts[1::2], strict=True)
    }
    return {name: found for name, found in rows.items() if found}


def test_report_200_noisy_cells_is_under_3_mb_with_all_cells():
    cell, field = noisy_webp(128, 82, sigma=16), noisy_webp(480, 50, sigma=16)
    page = render_large_slide(["neutrophil"] * 200, 1, cell, cell, field)
    assert len(page) < 3e6
    assert count_images(page)["native"] == 200
    assert "Fields not shown, although some of their cells are: " in page


def test_gallery_review_cells_leave_room_for_classes():
    cell, field = noisy_webp(128, 82), noisy_webp(480, 50)
    page = render_large_slide(["neutrophil", "review"] * 2000, 5, cell, cell, field)
    at = [page.index(f'id="category-{category}"') for category in ("review", "neutrophil", "lymphocyte")]
    review, neutrophils = (len(re.findall(r'<img id="native-\d+"', page[a:b])) for a, b in pairwise(at))
    assert review > neutrophils == MAX_CELLS_PER_CLASS


def test_keep_shown_renders_the_same_page():
    cell, field = noisy_webp(128, 82), noisy_webp(480, 50)
    result = large_result(["neutrophil", "review", "monocyte"] * 500, 2, cell, cell, field)
    shown = keep_shown(result)
    page = render_report(result, fakes.provenance())
    assert "Cells not shown: " in page
    assert render_report(shown, fakes.provenance()) == page
    assert keep_shown(shown) == shown
    n_native = sum(bool(thumbnails.native) for thumbnails in shown.thumbnails)
    assert (n_native, len(shown.field_thumbnails)) == (count_images(page)["native"], count_images(page)["field"])


def test_report_images_elsewhere_says_where():
    result = result_of(["neutrophil", "review"])
    result = replace(result, thumbnails=(CellThumbnails(),) * 2, field_thumbnails=())
    page = render_report(result, fakes.provenance(), images_elsewhere=True)
    text, links = read(page)
    assert "An earlier version of wbctool processed this slide: its images are in original-report.html." in text
    assert "Cells not shown" not in text
    assert "gallery-options" not in page[page.index("<body") : page.index("<script")]
    assert links == []


def test_report_reviewed_slide_names_reader_and_changes():
    result = replace(
        result_of(["neutrophil"] * 3),
        reviews=(Review("A<B", "2026-01-02T03:04:05+00:00", 1, "fine & good\n\nbut\x07 <see> f2", "ab" * 32),),
        notes=(ReviewNote(2, "monocyte", "<em>"),),
    )
    page = render_report(result, fakes.provenance())
    text, _ = read(page)
    assert "fine &amp; good<br><br>but\\x07 &lt;see&gt; f2" in page
    assert "Reviewed by A<B" in text
    assert "reader: neutrophil; tool: monocyte “<em>”" in text
    assert "A<B, 2026-01-02T03:04:05+00:00; cells moved: 1. “fine & good but" in text


def test_report_policy_allows_script_and_style_by_hash_only():
    page, _, _ = report(["neutrophil"])
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1])
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for kind, text in (
        ("style", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]),
        ("script", re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]),
    ):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(("side", "shown"), [(40, 40), (128, 128), (300, 128)])
def test_cell_thumbnail_is_native_up_to_128_px(side, shown):
    image = Image.open(io.BytesIO(make_cell_thumbnail(Crop(np.full((side, side, 3), (200, 30, 90), np.uint8)))))
    assert image.size == (shown, shown)
    assert np.abs(np.asarray(image).astype(int) - (200, 30, 90)).max() < 8


@pytest.mark.parametrize(("size", "shown"), [((640, 480), (480, 360)), ((200, 9000), (11, 480)), ((30, 20), (30, 20))])
def test_field_thumbnail_is_reduced_and_records_field_size(size, shown):
    picture = make_field_thumbnail(Field("f", np.zeros((size[1], size[0], 3), np.uint8)))
    assert (picture.width, picture.height) == size
    assert Image.open(io.BytesIO(picture.jpeg)).size == shown


def with_subtypes(result, *subtypes):
    """Give the first cells of a slide these subtypes."""
    named = [
        replace(cell, prediction=replace(cell.prediction, subtype=subtype))
        for cell, subtype in zip(result.cells, subtypes, strict=False)
    ]
    return replace(result, cells=(*named, *result.cells[len(named) :]))


def subtype_rows(page):
    attributes = r'data-of="(.*?)" data-subtype="(.*?)"(?: hidden)?'
    pattern = rf'<tr class="subtype" {attributes}><th scope="row">(.*?)</th>(.*?)</tr>'
    rows = re.findall(pattern, page, re.DOTALL)
    return [(of, subtype, name, re.findall(r'data-value=".*?">(.*?)</td>', cells)) for of, subtype, name, cells in rows]


def test_report_subtypes_are_counted_below_their_class():
    band, segmented = Subtype.BAND, Subtype.SEGMENTED
    result = result_of(["neutrophil"] * 6 + ["lymphocyte"] * 2 + ["review"])
    page = render_report(with_subtypes(result, band, segmented, segmented, segmented, segmented), fakes.provenance())
    assert subtype_rows(page) == [
        ("neutrophil", "band", "of which band", ["1", "12.5"]),
        ("neutrophil", "segmented", "of which segmented", ["4", "50.0"]),
        ("neutrophil", "", "of which undetermined", ["1", "12.5"]),
    ]
    assert (
        page.index('<tr data-class="neutrophil">')
        < page.index('data-of="neutrophil"')
        < page.index('<tr data-class="lymphocyte">')
    )
    text = read(page)[0]
    assert "poorly told apart even by human examiners" in text
    assert "neutrophil 0.93 band (research)" in text  # the probability is not that of the finer kind
    data = page_data(page)
    assert [row[8] for row in data["cells"]] == ["band", *["segmented"] * 4, "", "", "", ""]
    assert data["subtype_classes"]["myelocyte"] == "immature_granulocyte"


def test_report_subtypes_of_a_class_without_cells_are_hidden():
    result = result_of(["review", "lymphocyte"])
    cell = replace(result.cells[0], prediction=replace(result.cells[0].prediction, label=CellClass.NEUTROPHIL))
    result = with_subtypes(replace(result, cells=(cell, result.cells[1])), Subtype.BAND)
    page = render_report(result, fakes.provenance())
    assert page.count('<tr class="subtype"') == page.count('" hidden><th scope="row">of which') == 3
    assert 'id="subtypes-note" hidden' in page
    counted = with_subtypes(result_of(["neutrophil"]), Subtype.BAND)
    page = render_report(counted, fakes.provenance())
    assert '" hidden><th' not in page
    assert 'id="subtypes-note">' in page


def test_report_subtypes_of_cells_in_review_are_not_counted():
    result = with_subtypes(result_of(["review"]), Subtype.BAND)
    cell = result.cells[0]
    neutrophil = replace(cell, prediction=replace(cell.prediction, label=CellClass.NEUTROPHIL))
    rows = subtype_rows(render_report(replace(result, cells=(neutrophil,)), fakes.provenance()))
    assert [(subtype, values) for _, subtype, _, values in rows] == [
        ("band", ["0", "–"]),
        ("segmented", ["0", "–"]),
        ("", ["0", "–"]),
    ]


def test_report_without_subtypes_has_no_rows_of_them():
    page = render_report(result_of(["neutrophil"] * 3), fakes.provenance())
    assert subtype_rows(page) == []
    assert "told apart" not in read(page)[0]

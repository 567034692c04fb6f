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
from wbctool.labels import CellClass
from wbctool.report.gallery import MAX_BYTES, MAX_CELLS_PER_CLASS, MAX_FIELDS, keep_shown
from wbctool.report.html import render_report
from wbctool.report.strings import FLAGS as FLAG_TEXTS
from wbctool.report.summary import metadata_rows, severity, summary_sentence
from wbctool.settings import Limits
from wbctool.stages.absolute_counts import add_absolute_counts
from wbctool.stages.differential import FLAGS, count_cells
from wbctool.types.cells import Box, Cell, Crop, Detection, Field
from wbctool.types.results import (
    CellThumbnails,
    FieldFailure,
    FieldThumbnail,
    Review,
    ReviewNote,
    SlideResult,
    SlideStatus,
)
from wbctool.types.slides import FieldQuality, SlideMetadata

NATIVE = make_cell_thumbnail(Crop(np.full((40, 40, 3), 120, np.uint8)))
ENHANCED = make_super_resolved_thumbnail(np.full((128, 128, 3), 130, np.uint8))


class Checker(HTMLParser):
    """Every element is closed, nothing is fetched from elsewhere, and the text is at hand."""

    VOID = frozenset({"meta", "img", "br", "rect", "path", "input", "hr"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"} and not value.startswith("#")]
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
    """A slide of three fields whose cells, all in one of them, are those that ``names`` says."""
    predictions = [fakes.predict(name) for name in names]
    predictions = [replace(p, probabilities=p.probabilities[: len(known)]) for p in predictions]
    cells = tuple(
        Cell(field, i, Detection(Box(0, 0, 9, 9), 0.9), True, prediction) for i, prediction in enumerate(predictions, 1)
    )
    differential = count_cells(predictions, known, Limits(**limits))
    pictures = (CellThumbnails(NATIVE, ENHANCED),) * len(cells)
    overview = make_field_thumbnail(Field(field, np.full((48, 64, 3), 200, np.uint8)))
    return SlideResult(slide, status, 3, tuple(failures), cells, pictures, differential, (overview,))


def read(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(link.startswith(("data:image/webp;base64,", "data:image/jpeg;base64,")) for link in checker.links)
    assert not {name for name in checker.attributes if name.startswith("on") or name == "style"}
    return " ".join(" ".join(checker.text).split()), checker.links


def report(names, known=tuple(CellClass), **facts):
    page = render_report(result_of(names, known=known, **facts), fakes.provenance(known))
    return page, *read(page)


def test_verdict_and_flags_come_before_the_table():
    page, text, _ = report(["neutrophil"] * 120 + ["review"] * 24)
    verdict = "Differential of 120 counted cells; 24 more in review."
    assert page.index(verdict) < page.index("<strong>limited_count") < page.index("<table")
    assert "high_review_share" in text
    assert "Look closer" in text


def test_too_few_cells_are_no_differential():
    assert (
        "Too few cells for a differential: 20 counted; 4 more in review." in report(["basophil"] * 20 + ["odd"] * 4)[1]
    )


@pytest.mark.parametrize("counted", [29, 30])
def test_the_page_has_what_its_script_chooses_a_verdict_by(counted):
    """Moves of a reader may pass the limit either way: the page's script then says what an applied review says."""
    settings = (("super_resolve", "auto"), ("low_count_below", "30"))
    result = result_of(
        ["neutrophil"] * counted, low_count_below=30, failures=[FieldFailure("ward/s1", "g", "read", "?")]
    )
    data = page_data(render_report(result, replace(fakes.provenance(), settings=settings)))
    assert data["low_count_below"] == 30
    sentence = data["texts"]["verdict"]["low" if counted < data["low_count_below"] else "enough"]
    assert sentence.format(counted=counted, without=data["texts"]["without"], review="") == summary_sentence(result)


@pytest.mark.parametrize("counted", [1, 99, 100, 500])
def test_without_the_setting_the_script_keeps_the_verdict(counted):
    data = page_data(render_report(result_of(["neutrophil"] * counted), fakes.provenance()))
    assert (counted < data["low_count_below"]) == (counted < 100)


def test_a_failure_of_the_slide_is_no_field_that_the_verdict_lacks():
    result = result_of(["neutrophil"] * 5, failures=[FieldFailure("ward/s1", "", "report", "?")])
    assert page_data(render_report(result, fakes.provenance()))["texts"]["without"] == ""


def page_data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page)[1])


@pytest.mark.parametrize(("age", "shown"), [(0.0, "0"), (0.5, "0.5"), (71, "71")])
def test_an_age_is_shown_also_of_a_newborn(age, shown):
    metadata = SlideMetadata(patient="P-7", age=age, stain="")
    result = replace(result_of(["neutrophil"]), metadata=metadata)
    assert metadata_rows(result) == [("patient", "P-7"), ("age", shown)]
    assert f"patient P-7 age {shown} " in read(render_report(result, fakes.provenance()))[0]


def test_a_slide_without_flags_says_so():
    assert "No flags Not reviewed Differential of 200 counted cells." in report(["neutrophil"] * 200)[1]


def test_percents_and_absolute_counts_beyond_their_range_are_no_all_clear():
    high = result_of(["neutrophil"] * 240 + ["lymphocyte"] * 10, adult=True)
    assert not high.differential.flags
    assert severity(high) == "check"
    few = result_of(["neutrophil"] * 120 + ["lymphocyte"] * 80)
    few = replace(few, differential=add_absolute_counts(few.differential, 0.8, Limits(adult=True)))
    assert severity(few) == "check"
    text, _ = read(render_report(few, fakes.provenance()))
    assert "neutrophil_absolute_low : Neutrophil low: 0.48 × 10⁹/L, reference 2 to 7.5." in text


def test_what_is_said_of_the_blood_stands_apart_from_what_is_said_of_the_count():
    page, text, _ = report(["neutrophil"] * 90 + ["immature_granulocyte"] * 10, adult=True)
    assert "Findings neutrophil_high : Neutrophil high: 90.00 %, reference 45 to 79 %." in text
    assert (
        page.index("immature_granulocytes</strong>") < page.index("Limits of this count") < page.index("limited_count")
    )


def test_every_flag_has_words():
    assert tuple(FLAG_TEXTS) == FLAGS


def test_numbers_are_those_of_the_table():
    _, text, _ = report(["neutrophil"] * 9 + ["lymphocyte"] * 91)
    assert "neutrophil 9 9.00 4.20 – 16.40 9.00 / 9.00" in text


def test_how_far_review_could_move_a_percent():
    _, text, _ = report(["neutrophil"] * 6 + ["lymphocyte"] * 2 + ["review"] * 2)
    assert "lymphocyte 2 25.00 3.19 – 65.09 20.00 / 40.00" in text


def test_what_it_cannot_see_is_said():
    _, text, _ = report([])
    assert "does not know blasts or atypical lymphocytes: they are not modelled and cannot be excluded" in text
    assert "cover sampling alone" in text
    assert "Research use only" in text


def test_review_comes_first_and_each_cell_is_shown_once():
    page, _, links = report(["neutrophil", "review", "platelet"])
    assert len(links) == 2 * 3 + 1  # native and super-resolved each, and their field
    assert page.index('id="cell-2"') < page.index('id="cell-1"') < page.index('id="cell-3"')
    assert page.index('id="head-review"') < page.index('id="head-neutrophil"') < page.index('id="head-platelet"')


def test_not_assessed_is_not_zero():
    _, text, _ = report(["neutrophil"], known=tuple(CellClass)[:4])
    assert "basophil not assessed" in text
    assert "NRBC per 100 white cells not assessed" in text


def test_failed_fields_are_named():
    failure = FieldFailure("s", "f<3>.png", "read", "the file is <empty>")
    _, text, _ = report(["neutrophil"], failures=[failure], status=SlideStatus.PARTIAL)
    assert "f<3>.png (read): the file is <empty>" in text
    assert "without 1 of 3 fields" in text


def test_fields_that_show_the_same_are_named():
    result = result_of(["neutrophil"], duplicate_correlation=0.5)
    twin = FieldQuality("b<.png", None, None, None, None, None, None, duplicate_of="a.png")
    text, _ = read(render_report(replace(result, quality=(twin,)), fakes.provenance()))
    assert "Fields to check" in text
    assert "b<.png : shows the same cells as a.png" in text.replace("b<.png:", "b<.png :")


def test_long_lists_of_fields_are_folded():
    quality = tuple(FieldQuality(f"{i}.png", 0.3, 3, None, None, None, None, blurred=True) for i in range(9))
    for number, start in ((8, "<details open><summary>8 in all"), (9, "<details><summary>9 in all")):
        page = render_report(replace(result_of(["neutrophil"]), quality=quality[:number]), fakes.provenance())
        assert start in page


def test_a_scale_that_cannot_be_is_told_once():
    plain = dict.fromkeys(("blur_um", "blur_px", "coverage", "background_color", "cell_color", "stain_delta_e"))
    quality = tuple(FieldQuality(f"{i}.png", **plain, red_cell_um=100.0 + i, scale_mismatch=True) for i in range(3))
    text, _ = read(render_report(replace(result_of(["neutrophil"]), quality=quality), fakes.provenance()))
    told = "slides.csv : red cells measure 101.0 µm by its um_per_px, which must be wrong; focus was not judged"
    assert text.replace("slides.csv:", "slides.csv :").count(told) == 1


def test_the_analysers_count_is_said_to_be_corrected_only_where_it_was():
    for names, corrected in ((["neutrophil"] * 4, False), (["neutrophil"] * 4 + ["erythroblast"], True)):
        result = result_of(names)
        counted = add_absolute_counts(result.differential, 10.0, Limits(adult=True))
        text, _ = read(render_report(replace(result, differential=counted), fakes.provenance()))
        assert ("Corrected to 8.00 × 10⁹/L" in text) == corrected
        assert ("Corrected" in text) == corrected
        assert ". Reference ranges: UK" in text


def test_a_failed_slide_says_so():
    _, text, _ = report([], failures=[FieldFailure("s", "f", "read", "empty")] * 3, status=SlideStatus.FAILED)
    assert "Failed: no field of this slide could be analysed." in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a\x1b[31m\nb", "x\udcff"])
def test_names_are_data(name):
    page, _, _ = report(["neutrophil"], slide=name, field=name)
    page.encode("utf-8")
    assert page.count("<script") == 2  # the data and our own
    assert "<img src=x" not in page
    assert json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["slide"] == name
    assert "\x1b" not in page


def test_how_it_was_made():
    _, text, _ = report([])
    assert "wbctool 0.0.test, CPUExecutionProvider, fp32" in text
    assert "fake 1 ( classifier.onnx , SHA-256 " + "ab" * 32 in text


def test_the_same_result_gives_the_same_bytes():
    assert report(["neutrophil", "review"])[0] == report(["neutrophil", "review"])[0]


def test_blasts_are_said_before_the_numbers():
    page, _, _ = report(["neutrophil"] * 200)
    assert page.index("cannot be excluded") < page.index("<table")


def test_a_cell_has_its_second_most_probable_class():
    assert "monocyte 0.40 then neutrophil 0.09 low confidence f.png, cell 1" in report(["review"])[1]


def test_a_class_with_many_cells_is_not_pictured_whole_and_says_so():
    page, text, links = report(["neutrophil"] * (MAX_CELLS_PER_CLASS + 7) + ["monocyte"])
    assert f"7 more are not shown; these are the {MAX_CELLS_PER_CLASS} least certain" in text
    assert len(links) == 2 * (MAX_CELLS_PER_CLASS + 1) + 1
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["cells"]) == MAX_CELLS_PER_CLASS + 8


def large_slide(*args):
    """The page of a large result."""
    return render_report(large_result(*args), fakes.provenance())


def large_result(names, cells_a_field, native, enhanced, overview):
    """Each cell with the same images, and so each field."""
    where = [f"{i // cells_a_field}.png" for i in range(len(names))]
    predictions = [fakes.predict(name) for name in names]
    cells = [Cell(f, 1, Detection(Box(0, 0, 9, 9), 0.9), True, p) for f, p in zip(where, predictions, strict=True)]
    fields = tuple(FieldThumbnail(name, 640, 480, overview) for name in dict.fromkeys(where))
    pictures = (CellThumbnails(native, enhanced),) * len(names)
    return replace(
        result_of(names), fields=len(fields), cells=tuple(cells), thumbnails=pictures, field_thumbnails=fields
    )


def noisy_webp(side_px, quality, sigma=40, seed=0):
    """At a sigma of 40, what hardly any camera makes larger."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).normal(150, sigma, (side_px, side_px, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def pictured(page):
    return {
        kind: len(re.findall(rf'<img id="{kind}-\d+" src="data:image/(?:webp|jpeg);base64,[^"]', page))
        for kind in ("native", "enhanced", "field")
    }


def test_a_slide_of_thousands_of_fields_has_a_bounded_page(real_jpeg):
    fields = 3000
    rgb = np.asarray(Image.open(real_jpeg))
    overview, native = (
        make_field_thumbnail(Field("", rgb)).jpeg,
        make_cell_thumbnail(Crop(np.ascontiguousarray(rgb[:128, :128]))),
    )
    page = large_slide([fakes.NAMES[i % 6] for i in range(fields)], 1, native, b"", overview)
    assert pictured(page) == {"native": 6 * MAX_CELLS_PER_CLASS, "enhanced": 0, "field": MAX_FIELDS}
    assert f"Fields not shown, with cells that are: {6 * MAX_CELLS_PER_CLASS - MAX_FIELDS}." in page
    assert f"Cells not shown: {fields - 6 * MAX_CELLS_PER_CLASS}." in page
    assert len(page) < 10e6


@pytest.mark.parametrize("names", [["review"], ["neutrophil"], ["review", "neutrophil", "platelet"]])
def test_a_page_is_bounded_whatever_its_pictures(names):
    cell, field = noisy_webp(128, 82), noisy_webp(480, 50)
    cells = 10_000
    page = large_slide([names[i % len(names)] for i in range(cells)], 5, cell, cell, field)
    assert len(page) < MAX_BYTES + 400 * cells
    found = pictured(page)
    assert f"Cells not shown: {cells - found['native']}." in page
    assert found["native"] >= 200
    if "review" in names:
        assert found["native"] * len(cell) > 2e6  # as many as there is room for


def test_two_hundred_noisy_cells_are_under_3_mb_and_none_is_left_out():
    cell, field = noisy_webp(128, 82, sigma=16), noisy_webp(480, 50, sigma=16)
    page = large_slide(["neutrophil"] * 200, 1, cell, cell, field)
    assert len(page) < 3e6
    assert pictured(page)["native"] == 200
    assert "Fields not shown, with cells that are: " in page


def test_cells_in_review_come_before_others_and_leave_some_room():
    cell, field = noisy_webp(128, 82), noisy_webp(480, 50)
    page = large_slide(["neutrophil", "review"] * 2000, 5, cell, cell, field)
    at = [page.index(f'id="group-{place}"') for place in ("review", "neutrophil", "lymphocyte")]
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
    assert (n_native, len(shown.field_thumbnails)) == (pictured(page)["native"], pictured(page)["field"])


def test_render_report_images_elsewhere_says_where():
    result = result_of(["neutrophil", "review"])
    result = replace(result, thumbnails=(CellThumbnails(),) * 2, field_thumbnails=())
    page = render_report(result, fakes.provenance(), images_elsewhere=True)
    text, links = read(page)
    assert "An earlier version of wbctool processed this slide: its images are in original-report.html." in text
    assert "Cells not shown" not in text
    assert links == []


def test_a_reviewed_slide_says_who_moved_what():
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


def test_scripts_and_styles_run_by_their_hash_alone():
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
def test_pictures_are_native_up_to_128_px(side, shown):
    image = Image.open(io.BytesIO(make_cell_thumbnail(Crop(np.full((side, side, 3), (200, 30, 90), np.uint8)))))
    assert image.size == (shown, shown)
    assert np.abs(np.asarray(image).astype(int) - (200, 30, 90)).max() < 8


@pytest.mark.parametrize(("size", "shown"), [((640, 480), (480, 360)), ((200, 9000), (11, 480)), ((30, 20), (30, 20))])
def test_field_pictures_are_reduced_and_keep_the_fields_size(size, shown):
    picture = make_field_thumbnail(Field("f", np.zeros((size[1], size[0], 3), np.uint8)))
    assert (picture.width, picture.height) == size
    assert Image.open(io.BytesIO(picture.jpeg)).size == shown

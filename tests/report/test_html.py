import io
import re
from html.parser import HTMLParser

import fakes
import numpy as np
import pytest
from PIL import Image

from wbctool.labels import CellClass
from wbctool.records import Box, Cell, Crop, Detection, FieldFailure, SlideResult, SlideStatus
from wbctool.report.html import FLAG_TEXTS, picture, render_report
from wbctool.settings import Limits
from wbctool.stages.differential import FLAGS, count_cells

JPEG = picture(Crop(np.full((40, 40, 3), 120, np.uint8)))


class Checker(HTMLParser):
    """Every element is closed, nothing is fetched from elsewhere, and the text is at hand."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "img", "br", "rect", "path"}:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        if tag not in {"rect", "path"}:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(names, slide="ward/s1", failures=(), status=SlideStatus.OK, known=tuple(CellClass), field="f.png", **limits):
    cells = tuple(
        Cell(field, i, Detection(Box(0, 0, 9, 9), 0.9), True, fakes.predict(n)) for i, n in enumerate(names, 1)
    )
    differential = count_cells([c.prediction for c in cells], known, Limits(**limits))
    result = SlideResult(slide, status, 3, tuple(failures), cells, (JPEG,) * len(cells), differential)
    page = render_report(result, fakes.provenance(known))
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(link.startswith("data:image/jpeg;base64,") for link in checker.links)
    return page, " ".join(" ".join(checker.text).split()), checker.links


def test_verdict_and_flags_come_before_the_table():
    page, text, _ = report(["neutrophil"] * 20 + ["review"] * 4)
    verdict = "Differential of 20 counted cells; 4 more await review."
    assert page.index(verdict) < page.index("low_count") < page.index("<table>")
    assert "high_review_share" in text


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
    assert "covers sampling alone" in text
    assert "Research use only" in text


def test_review_comes_first_and_each_cell_is_shown_once():
    page, _, links = report(["neutrophil", "review", "platelet"])
    assert len(links) == 3
    assert page.index("To review: 1") < page.index("Neutrophil: 1") < page.index("Platelet: 1")


def test_not_assessed_is_not_zero():
    _, text, _ = report(["neutrophil"], known=tuple(CellClass)[:4])
    assert "basophil not assessed" in text
    assert "NRBC per 100 white cells: not assessed" in text


def test_failed_fields_are_named():
    failure = FieldFailure("s", "f<3>.png", "read", "the file is <empty>")
    _, text, _ = report(["neutrophil"], failures=[failure], status=SlideStatus.PARTIAL)
    assert "f<3>.png (read): the file is <empty>" in text
    assert "without 1 of 3 fields" in text


def test_a_failed_slide_says_so():
    _, text, _ = report([], failures=[FieldFailure("s", "f", "read", "empty")] * 3, status=SlideStatus.FAILED)
    assert "Failed: no field of this slide could be analysed." in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x>', "a\x1b[31m\nb", "x\udcff"])
def test_names_are_data(name):
    page, _, _ = report(["neutrophil"], slide=name, field=name)
    page.encode("utf-8")
    assert "<script" not in page
    assert "src=x" not in re.sub(r"&[^;]+;img src=x", "", page)
    assert "\x1b" not in page


def test_how_it_was_made():
    _, text, _ = report([])
    assert "wbctool 0.0.test, CPUExecutionProvider, fp32" in text
    assert "fake 1 ( classifier.onnx , SHA-256 " + "ab" * 32 in text


def test_the_same_result_gives_the_same_bytes():
    assert report(["neutrophil", "review"])[0] == report(["neutrophil", "review"])[0]


@pytest.mark.parametrize(("side", "shown"), [(40, 40), (96, 96), (300, 96)])
def test_pictures_are_native_up_to_96_px(side, shown):
    image = Image.open(io.BytesIO(picture(Crop(np.full((side, side, 3), (200, 30, 90), np.uint8)))))
    assert image.size == (shown, shown)
    assert np.abs(np.asarray(image).astype(int) - (200, 30, 90)).max() < 8

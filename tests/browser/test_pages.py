"""The pages as people see them."""

import itertools
import re
import time
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

from wbctool.report.index import render_index
from wbctool.report.tables import empty_row
from wbctool.store.counts_table import IndexRow
from wbctool.types.results import SlideStatus

PAGES = {
    "normal": "normal/report.html",
    "flags": "ward 3/<flags>/report.html",
    "empty": "empty/report.html",
    "failed": "failed/report.html",
    "index": "index.html",
}


def page(out: Path, name: str) -> Path:
    return out.with_suffix("") / PAGES[name]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_seen_without_complaint(made, window, name, scheme):
    window.open(page(made, name), scheme)
    shot = np.asarray(Image.open(window.screenshot(f"{name}-{scheme}")).convert("L"))
    assert shot.std() > 10  # something is drawn
    assert bool(shot[-1, 0] > 128) == (scheme == "light")
    assert window.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_narrow_window(made, window, name):
    window.open(page(made, name), width=500)
    window.screenshot(f"{name}-narrow")
    assert window.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("name", ["normal", "flags", "index"])
def test_a_page_prints_on_a4_in_black_on_white(made, window, name):
    window.open(page(made, name), scheme="dark", media="print")
    window.screenshot(f"{name}-print")
    style = "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
    assert window.js(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    window.open(page(made, name), scheme="dark")
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", window.pdf(name).read_bytes())
    a4_points = (842, 595) if name == "index" else (595, 842)
    assert [float(side) for side in box.groups()] == pytest.approx(a4_points, abs=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(made, window, name, scheme):
    axe = pytest.importorskip("axe_core_python")
    window.open(page(made, name), scheme)
    if window.js("document.querySelector('.cell') !== null"):
        window.click(".cell")
        window.js("document.querySelector('details').open = true")
    window.driver.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = window.driver.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"]
    bad = [
        (v["impact"], v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in found["violations"]
        if v["impact"] in {"serious", "critical", "moderate"}
    ]
    assert bad == []


def test_two_hundred_cells_are_a_page_under_3_mb(made, window, capsys):
    path = page(made, "normal")
    began = time.perf_counter()
    window.open(path)
    assert window.js("document.images.length") > 400
    cells = window.js("document.querySelectorAll('.cell').length")
    size = path.stat().st_size
    with capsys.disabled():
        print(f"\n  report of {cells} cells: {size / 1e6:.2f} MB, opened in {time.perf_counter() - began:.1f} s")
    assert cells >= 200
    assert size / cells < 3e6 / 200


def test_without_scripts_all_is_there(made, window):
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.open(page(made, "flags"))
        window.screenshot("flags-no-script")
        document = window.driver.find_element("css selector", "body").text
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "In review" in document or "To review" in document
    assert "Your review" not in document


def test_the_index_leads_to_a_report_and_back(made, window):
    window.open(page(made, "index"))
    window.driver.find_element("link text", "ward 3/<flags>").click()
    assert window.text("h1") == "ward 3/<flags>"


def test_the_index_is_sorted_by_keyboard(made, window):
    from selenium.webdriver.common.keys import Keys

    window.open(page(made, "index"))
    head = "th[data-key='counted']"
    window.js("document.querySelector(arguments[0]).focus()", f"{head} button")
    window.press(Keys.ENTER)
    column = "[...document.querySelectorAll('tbody tr')].map(r => +r.cells[6].textContent)"
    assert window.js(column) == sorted(window.js(column))
    window.press(Keys.SPACE)
    assert window.js(column) == sorted(window.js(column), reverse=True)
    assert window.js("document.querySelector(arguments[0]).ariaSort", head) == "descending"
    assert window.js("document.querySelectorAll('[aria-sort]').length") == 1


def test_slides_of_one_patient_stand_together_when_sorted(window, tmp_path):
    known = fakes.provenance().classes
    patients = ["007", "9", "7", "2-3", "007", "100", "7", "P2", "9", "1a"]
    rows = [
        IndexRow(empty_row(f"s{i}", SlideStatus.OK, 1, known), "", (), (), whose) for i, whose in enumerate(patients)
    ]
    (tmp_path / "index.html").write_text(render_index(rows))
    window.open(tmp_path / "index.html")
    window.click("th[data-key='patient'] button")
    shown = window.js("[...document.querySelectorAll('tbody tr')].map(r => r.cells[1].textContent)")
    assert sorted(shown) == sorted(patients)
    assert [patient for patient, _ in itertools.groupby(shown)] == ["1a", "2-3", "007", "7", "9", "100", "P2"]


def test_an_index_of_three_thousand_slides_is_sorted_at_once(window, tmp_path):
    known = fakes.provenance().classes
    rows = [IndexRow(empty_row(f"slide-{i}", SlideStatus.OK, i % 7, known), "", (), ()) for i in range(3000)]
    (tmp_path / "index.html").write_text(render_index(rows))
    window.open(tmp_path / "index.html")
    began = time.perf_counter()
    window.click("th[data-key='fields'] button")
    assert window.text("tbody tr:last-child td:nth-of-type(4)") == "6"
    assert time.perf_counter() - began < 10

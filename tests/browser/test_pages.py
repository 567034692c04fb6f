"""The pages in a browser."""

import itertools
import re
import time
from pathlib import Path

import fakes
import numpy as np
import pytest
from PIL import Image

from wbctool.report.csv_tables import empty_row
from wbctool.report.index import render_index
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
def test_page_opens_without_console_messages(finished_run, window, name, scheme):
    window.open(page(finished_run, name), scheme)
    screenshot = np.asarray(Image.open(window.screenshot(f"{name}-{scheme}")).convert("L"))
    assert screenshot.std() > 10  # something is drawn
    assert bool(screenshot[-1, 0] > 128) == (scheme == "light")
    assert window.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.parametrize("width", [500, 375])
@pytest.mark.parametrize("name", PAGES)
def test_page_fits_narrow_window(finished_run, window, name, width):
    window.open(page(finished_run, name), width=width)
    window.screenshot(f"{name}-{width}")
    assert window.js("innerWidth") == width
    assert window.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    if name != "index":  # the table of the index scrolls beside the names of the slides
        assert window.js("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")


@pytest.mark.parametrize("name", ["normal", "flags", "index"])
def test_page_prints_on_a4_in_black_on_white(finished_run, window, name):
    window.open(page(finished_run, name), scheme="dark", media="print")
    window.screenshot(f"{name}-print")
    style = "(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))"
    assert window.js(style) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    window.open(page(finished_run, name), scheme="dark")
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", window.pdf(name).read_bytes())
    a4_points = (842, 595) if name == "index" else (595, 842)
    assert [float(side) for side in box.groups()] == pytest.approx(a4_points, abs=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_accessibility_violation(finished_run, window, name, scheme):
    axe = pytest.importorskip("axe_core_python")
    window.open(page(finished_run, name), scheme)
    if window.js("document.querySelector('.cell') !== null"):
        window.click(".cell")
        window.js("document.querySelector('details').open = true")
    window.driver.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = window.driver.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"]
    violations = [
        (v["impact"], v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in found["violations"]
        if v["impact"] in {"serious", "critical", "moderate"}
    ]
    assert violations == []


def test_report_200_cells_is_under_3_mb(finished_run, window, capsys):
    path = page(finished_run, "normal")
    start = time.perf_counter()
    window.open(path)
    assert window.js("document.images.length") > 400
    cells = window.js("document.querySelectorAll('.cell').length")
    size = path.stat().st_size
    with capsys.disabled():
        print(f"\n  report of {cells} cells: {size / 1e6:.2f} MB, opened in {time.perf_counter() - start:.1f} s")
    assert cells >= 200
    assert size / cells < 3e6 / 200


def test_report_without_scripts_shows_all_results(finished_run, window):
    window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        window.open(page(finished_run, "flags"))
        window.screenshot("flags-no-script")
        document = window.driver.find_element("css selector", "body").text
    finally:
        window.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "In review" in document or "To review" in document
    assert "Your review" not in document


def test_index_link_opens_report(finished_run, window):
    window.open(page(finished_run, "index"))
    window.driver.find_element("link text", "ward 3/<flags>").click()
    assert window.text("h1") == "ward 3/<flags>"


def test_report_leads_back_to_the_index_but_not_on_paper(finished_run, window):
    window.open(page(finished_run, "flags"), media="print")
    assert window.js("document.querySelector('.to-index').offsetHeight") == 0
    window.open(page(finished_run, "flags"))
    window.click(".to-index a")
    assert window.text("h1") == "Slides"


def test_index_sorts_by_keyboard(finished_run, window):
    from selenium.webdriver.common.keys import Keys

    window.open(page(finished_run, "index"))
    heading = "th[data-key='counted']"
    window.js("document.querySelector(arguments[0]).focus()", f"{heading} button")
    window.press(Keys.ENTER)
    column = "[...document.querySelectorAll('tbody tr:not(.failures)')].map(r => +r.cells[3].textContent)"
    assert window.js(column) == sorted(window.js(column))
    window.press(Keys.SPACE)
    assert window.js(column) == sorted(window.js(column), reverse=True)
    below = "[...document.querySelectorAll('tr.failures')].map(r => r.previousElementSibling.cells[2].innerText.trim())"
    assert sorted(slide.split("\n")[0] for slide in window.js(below)) == ["failed", "ward 3/<flags>"]
    assert window.js("document.querySelector(arguments[0]).ariaSort", heading) == "descending"
    assert window.js("document.querySelectorAll('[aria-sort]').length") == 1


def test_index_sorted_by_patient_groups_slides(window, tmp_path):
    known = fakes.provenance().classes
    patients = ["007", "9", "7", "2-3", "007", "100", "7", "P2", "9", "1a"]
    rows = [
        IndexRow(empty_row(f"s{i}", SlideStatus.OK, 1, known), "", (), (), patient)
        for i, patient in enumerate(patients)
    ]
    (tmp_path / "index.html").write_text(render_index(rows))
    window.open(tmp_path / "index.html")
    window.click("th[data-key='patient'] button")
    shown = window.js("[...document.querySelectorAll('tbody tr')].map(r => r.cells[3].textContent)")
    assert sorted(shown) == sorted(patients)
    assert [patient for patient, _ in itertools.groupby(shown)] == ["1a", "2-3", "007", "7", "9", "100", "P2"]


def test_index_3000_slides_sorts_within_10_s(window, tmp_path):
    known = fakes.provenance().classes
    rows = [IndexRow(empty_row(f"slide-{i}", SlideStatus.OK, i % 7, known), "", (), ()) for i in range(3000)]
    (tmp_path / "index.html").write_text(render_index(rows))
    window.open(tmp_path / "index.html")
    start = time.perf_counter()
    window.click("th[data-key='fields'] button")
    assert window.text("tbody tr:last-child td:nth-last-of-type(2)") == "6"
    assert time.perf_counter() - start < 10

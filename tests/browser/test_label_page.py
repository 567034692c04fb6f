"""The label page in a browser: a reader names cells with the keyboard and saves a file that wbctool reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from driver import Window
from typer.testing import CliRunner

from wbctool.adaptation.labels_file import Labels, NoClass, Purpose, read_labels
from wbctool.cli import app
from wbctool.labels import CellClass, UnknownKind

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed").Keys
N_CELLS = 12


@pytest.fixture(scope="session")
def label_page(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of twelve cells; do not change it."""
    path = tmp_path_factory.mktemp("label") / "label.html"
    args = ["label", str(finished_run), "--cells", str(N_CELLS), "--to", str(path)]
    result = CliRunner().invoke(app, args)
    assert result.exit_code in {0, 3}, result.output  # 3: a slide of the run failed
    return path


@pytest.fixture
def page(window: Window, label_page: Path) -> Window:
    """Open the page, and begin."""
    window.open(label_page)
    window.press("A", "B", Keys.ENTER)
    return window


def chord(window: Window, *keys: str) -> None:
    """Press keys together."""
    window.driver.switch_to.active_element.send_keys(*keys, Keys.NULL)


def save(window: Window) -> Labels:
    chord(window, Keys.CONTROL, "s")
    return read_labels(window.downloaded("labels-counts-*.json"))


def is_shown(window: Window, selector: str) -> bool:
    return bool(window.js("document.querySelector(arguments[0]).offsetParent !== null", selector))


def asks_before_it_is_left(window: Window) -> bool:
    return not window.js("dispatchEvent(new Event('beforeunload', { cancelable: true }))")


def picture(window: Window) -> str:
    return str(window.js("document.getElementById('cell-image').src"))


def test_keyboard_alone_names_five_cells_and_saves_them(page):
    for key in ("1", "6", "b", "x", "c"):
        page.press(key)
    assert page.text("#progress-text") == f"5 of {N_CELLS} named, {N_CELLS - 5} to go"
    assert page.text("#position") == f"Cell 6 of {N_CELLS}"
    labels = save(page)
    assert (labels.reader, labels.cells_asked) == ("AB", N_CELLS)
    assert [cell.label for cell in labels.cells] == [
        CellClass.NEUTROPHIL,
        CellClass.IMMATURE_GRANULOCYTE,
        UnknownKind.BLAST,
        NoClass.NONE_OF_THESE,
        NoClass.CANNOT_TELL,
    ]
    assert sorted(cell.time for cell in labels.cells) == [cell.time for cell in labels.cells]
    assert not any(cell.answer_shown for cell in labels.cells)
    assert "with 5 of 12 cells" in page.text("#status")


def test_second_file_has_a_name_of_its_own(page):
    """The browser would call it "labels-counts (1).json", which sorts before the first."""
    page.press("1")
    first = save(page)
    page.press("2")
    chord(page, Keys.CONTROL, "s")
    second = page.downloaded("labels-counts-*.json", n=2)
    assert page.text("#status").startswith(f"Saved to your downloads as {second.name}")
    assert len(read_labels(second).cells) == len(first.cells) + 1


def test_keys_of_classes_are_those_of_the_gallery(page, finished_run):
    keys = dict(page.js("[...document.querySelectorAll('.answer')].map(b => [b.dataset.label, b.dataset.key])"))
    page.open(finished_run.with_suffix("") / "normal" / "report.html")
    gallery = page.js(
        "[...document.querySelectorAll('#category-buttons [data-category]')]"
        ".map(b => [b.dataset.category, b.querySelector('kbd').textContent])"
    )
    assert {label: key for label, key in gallery if label in keys} == {label: keys[label] for label in CellClass}
    assert keys["none_of_these"] == dict(gallery)["artefact"]
    assert len(set(keys.values())) == len(keys)


def test_saved_file_is_what_the_run_found(page, finished_run):
    page.press(*["2"] * N_CELLS)
    labels = save(page)
    assert len(labels.cells) == N_CELLS
    assert sum(cell.chosen is Purpose.MEASURE for cell in labels.cells) == N_CELLS / 3
    for cell in labels.cells:
        rows = (finished_run.with_suffix("") / cell.slide / "cells.csv").read_text().splitlines()
        box = cell.box
        start = f"{cell.slide},{cell.field},{cell.cell},{box.x},{box.y},{box.width},{box.height},"
        assert sum(row.startswith(start) for row in rows) == 1


@pytest.mark.parametrize("keys", [("u",), (Keys.BACKSPACE,), (Keys.CONTROL, "z")])
def test_undo_returns_to_the_cell_and_takes_its_name_back(page, keys):
    first = picture(page)
    page.press("1", "2")
    chord(page, *keys)
    assert page.text("#position") == f"Cell 2 of {N_CELLS}"
    chord(page, *keys)
    assert picture(page) == first
    assert page.text("#progress-text") == f"0 of {N_CELLS} named, {N_CELLS} to go"
    assert page.js("document.getElementById('undo').disabled")


def test_undo_of_a_change_restores_the_name_before(page):
    page.press("1", Keys.ARROW_LEFT, "2")
    page.press("u")
    assert page.text("#position") == f"Cell 1 of {N_CELLS}: neutrophil"
    pressed = page.js("[...document.querySelectorAll('.answer[aria-pressed=\"true\"]')].map(b => b.dataset.label)")
    assert pressed == ["neutrophil"]


def test_arrows_pass_cells_over_and_naming_leads_to_those_left(page):
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "3")
    assert page.text("#position") == f"Cell 4 of {N_CELLS}"
    page.press(*["1"] * (N_CELLS - 3))
    assert page.text("#position") == f"Cell 1 of {N_CELLS}"


def test_reload_keeps_all_and_goes_on(page, label_page):
    page.press("1", "5", "t", "s")
    page.open(label_page)
    assert page.text("#reader") == "Reader: AB"
    assert page.text("#position") == f"Cell 4 of {N_CELLS}"
    labels = save(page)
    assert [cell.label for cell in labels.cells] == [CellClass.NEUTROPHIL, CellClass.BASOPHIL, UnknownKind.SMUDGE]
    assert [cell.answer_shown for cell in labels.cells] == [False, False, True]


def test_each_reader_has_labels_of_their_own(page, label_page):
    page.press("1", "1")
    page.click("#change-reader")
    page.press("C", "D", Keys.ENTER)
    assert page.text("#progress-text") == f"0 of {N_CELLS} named, {N_CELLS} to go"
    page.press("2")
    page.click("#change-reader")
    page.press("A", "B", Keys.ENTER)
    assert page.text("#progress-text") == f"2 of {N_CELLS} named, {N_CELLS - 2} to go"
    assert save(page).reader == "AB"


def test_new_page_asks_who_reads_and_proposes_the_last_reader(page, label_page):
    page.js("(localStorage.clear(), localStorage.setItem('wbctool.label.reader', 'AB'))")
    page.open(label_page)
    assert is_shown(page, "#start")
    assert page.js("document.getElementById('name').value") == "AB"
    page.press(Keys.ENTER)
    assert page.text("#reader") == "Reader: AB"


def test_answer_of_the_tool_is_hidden_until_asked_for_and_with_the_next_cell(page):
    data = page.js("JSON.parse(document.getElementById('data').textContent)")
    answer, entry = data["cells"][0]["answer"], data["cells"][0]["entry"]
    assert answer not in page.js("document.body.innerText")
    assert entry["slide"] not in page.js("document.body.innerText")  # the slide would bias too
    page.press("t")
    assert page.text("#answer") == answer
    page.press("t")
    assert not is_shown(page, "#answer")
    page.press("t", "1")
    assert not is_shown(page, "#answer")
    assert save(page).cells[0].answer_shown


def test_page_does_not_tell_what_a_cell_was_chosen_for(page):
    """All that the page shows of a cell of either kind is the same but for the pictures and numbers."""
    seen = {"random": set(), "informative": set()}
    data = page.js("JSON.parse(document.getElementById('data').textContent)")
    for cell in data["cells"]:
        html = page.js("document.getElementById('naming').outerHTML")
        seen[cell["entry"]["chosen"]].add(re.sub(r'(src|viewBox|[xy]|width|height)="[^"]*"|\d+', "", html))
        page.press(Keys.ARROW_RIGHT)
    assert seen["random"] == seen["informative"]
    assert len(seen["random"]) == 1


def test_key_held_down_names_one_cell(page):
    page.js(
        """[false, true, true].forEach(repeat => document.dispatchEvent(
        new KeyboardEvent('keydown', { key: '1', bubbles: true, repeat })))"""
    )
    assert page.text("#progress-text") == f"1 of {N_CELLS} named, {N_CELLS - 1} to go"


def test_digits_on_shift_name_cells_and_other_keys_with_shift_do_not(page):
    """As a French keyboard sends them."""
    page.js(
        """[['3', 'Digit3'], ['B', 'KeyB'], ['!', 'Digit8']].forEach(([key, code]) => document.dispatchEvent(
        new KeyboardEvent('keydown', { key, code, bubbles: true, shiftKey: true })))"""
    )
    assert [cell.label for cell in save(page).cells] == [list(CellClass)[2]]


def test_page_that_keeps_the_names_does_not_ask_before_it_is_left(page):
    page.press("1")
    assert not asks_before_it_is_left(page)


def test_file_can_still_be_read_after_the_click(page):
    """A browser that asks where to save it reads it late."""
    page.press("1")
    page.js("(window.nRevoked = 0, URL.revokeObjectURL = () => { window.nRevoked += 1; })")
    save(page)
    assert page.js("window.nRevoked") == 0


def test_change_in_another_tab_cannot_be_undone_here(page):
    page.press("1", "2")
    page.driver.execute_script(
        """const key = Object.keys(localStorage).find((name) => name.endsWith('.AB'));
        const named = { 0: { label: 'monocyte', time: '2026-11-28T10:00:00Z', answer_shown: false } };
        localStorage.setItem(key, JSON.stringify({ named, answersShown: {} }));
        dispatchEvent(new StorageEvent('storage', { key }));"""
    )
    assert page.js("document.getElementById('undo').disabled")
    page.press("u")
    assert [cell.label for cell in save(page).cells] == [CellClass.MONOCYTE]


def test_letters_in_the_reader_name_name_no_cell(page):
    page.click("#change-reader")
    page.press("x", "1", "b", Keys.ENTER)
    assert page.text("#reader") == "Reader: x1b"
    assert page.text("#progress-text") == f"0 of {N_CELLS} named, {N_CELLS} to go"


def test_end_offers_to_save_and_to_look_again(page):
    page.press(*["1"] * N_CELLS)
    assert is_shown(page, "#done")
    assert page.js("document.activeElement.id") == "save-at-end"
    page.press("2", "2")  # one more key names no cell
    page.press(Keys.ENTER)
    assert {cell.label for cell in read_labels(page.downloaded("labels-counts-*.json")).cells} == {CellClass.NEUTROPHIL}
    page.press(Keys.ARROW_LEFT)
    assert page.text("#position") == f"Cell {N_CELLS} of {N_CELLS}: neutrophil"


def test_box_marks_the_cell_in_its_field(page):
    """The picture of the place is the size of its region, and the box lies within it."""
    x, y, width, height = page.js("document.getElementById('field-box').getAttribute('viewBox')").split()
    box = page.js("(r => ['x', 'y', 'width', 'height'].map(k => +r.getAttribute(k)))(document.querySelector('.box'))")
    assert float(x) <= box[0] <= box[0] + box[2] <= float(x) + float(width)
    assert float(y) <= box[1] <= box[1] + box[3] <= float(y) + float(height)
    natural = page.js("(i => i.naturalWidth / i.naturalHeight)(document.getElementById('field-image'))")
    assert natural == pytest.approx(float(width) / float(height), rel=0.02)


def test_button_names_cell_too(page):
    page.click('.answer[data-label="eosinophil"]')
    page.click("#save")
    assert read_labels(page.downloaded("labels-counts-*.json")).cells[0].label is CellClass.EOSINOPHIL


def test_browser_that_keeps_nothing_says_so(window, label_page):
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } });"
    added = window.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        window.open(label_page)
        window.press("A", Keys.ENTER, "1")
        assert "keeps nothing" in window.text("#status")
        assert asks_before_it_is_left(window)
        chord(window, Keys.CONTROL, "s")
        assert len(read_labels(window.downloaded("labels-counts-*.json")).cells) == 1
        assert asks_before_it_is_left(window)  # the browser may have blocked the download
        window.press("u")
        assert not asks_before_it_is_left(window)
    finally:
        window.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 900, 1400])
def test_page_fits_the_window_in_every_state(page, label_page, scheme, width):
    for state in ("naming", "done", "start"):
        page.open(label_page, scheme, width=width, height=812)
        if state == "done":
            page.press(*["1"] * N_CELLS)
        elif state == "start":
            page.click("#change-reader")
        assert is_shown(page, f"#{state}")
        page.screenshot(f"label-{state}-{scheme}-{width}")
        assert page.js("innerWidth") == width
        assert page.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    background = page.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_phone_shows_cell_and_all_answers_at_once(page, label_page):
    page.open(label_page, width=375, height=812)
    lowest = page.js(
        "Math.max(...[...document.querySelectorAll('.answer')].map(b => b.getBoundingClientRect().bottom))"
    )
    assert lowest <= 812
    assert page.js("document.getElementById('cell-image').getBoundingClientRect().width") >= 280


@pytest.mark.parametrize(("width", "height"), [(1280, 640), (1366, 600), (1400, 812)])
def test_laptop_shows_all_answers_without_scrolling(page, label_page, width, height):
    page.open(label_page, width=width, height=height)
    page.screenshot(f"label-{width}x{height}")
    assert page.js("document.documentElement.scrollHeight <= innerHeight")
    lowest = page.js("document.querySelector('.answer[data-label=cannot_tell]').getBoundingClientRect().bottom")
    assert lowest <= height
    assert page.js("Math.min(...[...document.querySelectorAll('.answer')].map(b => b.offsetHeight))") >= 24


def test_next_cell_is_in_view_after_the_lowest_answer(page, label_page):
    page.open(label_page, width=375, height=500)
    page.click('.answer[data-label="cannot_tell"]')
    assert page.js("document.getElementById('position').getBoundingClientRect().top") > -1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["start", "naming", "done"])
def test_page_has_no_accessibility_violation(page, label_page, scheme, state):
    axe = pytest.importorskip("axe_core_python")
    page.open(label_page, scheme)
    page.press("1", "t")
    if state == "start":
        page.click("#change-reader")
    if state == "done":
        page.press(*["1"] * N_CELLS)
    page.driver.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = page.driver.execute_async_script("axe.run().then(arguments[0])")
    assert found["passes"]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found["violations"]] == []

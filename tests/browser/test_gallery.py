"""The gallery of a report with many cells in review, by keyboard and mouse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from driver import Window

from wbctool.imaging.thumbnails import make_cell_thumbnail, make_field_thumbnail, make_super_resolved_thumbnail
from wbctool.labels import CellClass, Subtype
from wbctool.limits import Limits
from wbctool.report.gallery import keep_shown
from wbctool.report.html import render_report
from wbctool.stages.differential import count_cells
from wbctool.types.cells import Box, Cell, Crop, Detection, Field, Outcome, Prediction, Reason
from wbctool.types.results import CellThumbnails, SlideResult, SlideStatus

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed").Keys
REVIEW = "#category-review .cell"
LABELS = [CellClass.NEUTROPHIL] * 52 + [CellClass.LYMPHOCYTE] * 27 + [CellClass.MONOCYTE] * 13
ODD_LABELS = [CellClass.NEUTROPHIL] * 5 + [CellClass.LYMPHOCYTE, CellClass.MONOCYTE, CellClass.BASOPHIL]
N_COUNTED = 30


def predict(label: CellClass, confidence: float, reason: Reason = Reason.NONE) -> Prediction:
    """Predict a class; with a reason the cell is in review."""
    rest = (1 - confidence) / (len(CellClass) - 1)
    probabilities = tuple(confidence if known is label else rest for known in CellClass)
    outcome = Outcome.NEEDS_REVIEW if reason else Outcome.COUNTED
    return Prediction(label, confidence, probabilities, -5.0, outcome, reason)


def slide_of(predictions: Sequence[Prediction], native_px: int = 40, cells_per_field: int = 20) -> SlideResult:
    """Return a slide whose cells are gray squares."""
    field = make_field_thumbnail(Field("0.png", np.full((48, 64, 3), 200, np.uint8)))
    native = make_cell_thumbnail(Crop(np.full((native_px, native_px, 3), 120, np.uint8)))
    thumbnails = CellThumbnails(native, make_super_resolved_thumbnail(np.full((128, 128, 3), 130, np.uint8)))
    cells = tuple(
        Cell(f"{i // cells_per_field}.png", i % cells_per_field + 1, Detection(Box(0, 0, 9, 9), 0.9), True, prediction)
        for i, prediction in enumerate(predictions)
    )
    differential = count_cells(predictions, tuple(CellClass), Limits(adult=True))
    fields = tuple(replace(field, name=name) for name in dict.fromkeys(cell.field for cell in cells))
    return SlideResult(
        "ward/s1", SlideStatus.OK, len(fields), (), cells, (thumbnails,) * len(cells), differential, fields
    )


@pytest.fixture(scope="session")
def many_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with 100 cells in review; do not change it."""
    low = [predict(label, 0.3 + 0.5 * i / len(LABELS), Reason.LOW_CONFIDENCE) for i, label in enumerate(LABELS)]
    odd = [predict(label, 0.85, Reason.OUT_OF_DISTRIBUTION) for label in ODD_LABELS]
    counted = [predict(CellClass.NEUTROPHIL if i % 3 else CellClass.EOSINOPHIL, 0.97) for i in range(N_COUNTED)]
    path = tmp_path_factory.mktemp("many") / "report.html"
    provenance = replace(fakes.provenance(), reference_source="ARUP Laboratories, adults")
    path.write_text(render_report(slide_of([*low, *odd, *counted]), provenance))
    return path


@pytest.fixture
def gallery(window: Window, many_page: Path) -> Window:
    """Open that report."""
    window.open(many_page)
    return window


def focus(window: Window, selector: str) -> None:
    window.js("document.querySelector(arguments[0]).focus()", selector)


def chord(window: Window, *keys: str) -> None:
    """Press keys together, the last one once."""
    window.driver.switch_to.active_element.send_keys(*keys, Keys.NULL)


def rows(window: Window, selector: str) -> list[int]:
    return [
        int(row) for row in window.js("[...document.querySelectorAll(arguments[0])].map(t => t.dataset.row)", selector)
    ]


def selected(window: Window) -> list[int]:
    return rows(window, '.cell[aria-selected="true"]')


def click(window: Window, row: int, modifier: str = "") -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    tile = window.driver.find_element("id", f"cell-{row}")
    window.js("arguments[0].scrollIntoView({block: 'center'})", tile)
    actions = ActionChains(window.driver)
    if modifier:
        actions.key_down(modifier)
    actions.click(tile)
    if modifier:
        actions.key_up(modifier)
    actions.perform()


def n_review(window: Window) -> int:
    return int(window.text("#n-review"))


def status(window: Window) -> str:
    return window.text("#review-status")


def set_range(window: Window, selector: str, value: float) -> None:
    """Move a slider as a user does, with its event."""
    script = (
        "(e => { e.value = arguments[1]; e.dispatchEvent(new Event('input')); })(document.querySelector(arguments[0]))"
    )
    window.js(script, selector, value)


# --- selecting ---


def test_control_click_adds_and_removes_one_cell(gallery):
    first, second, third, *_ = rows(gallery, REVIEW)
    click(gallery, first)
    click(gallery, third, Keys.CONTROL)
    assert selected(gallery) == [first, third]
    click(gallery, first, Keys.CONTROL)
    assert selected(gallery) == [third]
    click(gallery, second)
    assert selected(gallery) == [second]


def test_select_several_makes_taps_toggle(gallery):
    first, second, third, *_ = rows(gallery, REVIEW)
    gallery.click("#select-several")
    for row in (first, second, third, second):
        click(gallery, row)
    assert selected(gallery) == [first, third]
    gallery.click("#select-several")
    click(gallery, second)
    assert selected(gallery) == [second]


def test_buttons_are_high_enough_for_a_finger(gallery, many_page):
    heights = "[...document.querySelectorAll('button')].filter(b => b.offsetParent).map(b => b.offsetHeight)"
    assert min(gallery.js(heights)) < 40
    gallery.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        gallery.open(many_page, width=390, height=844)
        click(gallery, rows(gallery, REVIEW)[0])
        gallery.screenshot("touch")
        assert gallery.js("matchMedia('(pointer: coarse)').matches")
        assert min(gallery.js(heights)) >= 40
        assert gallery.js("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    finally:
        gallery.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_panel_shows_the_diameter_of_the_current_cell_if_it_is_known(window: Window, tmp_path: Path) -> None:
    result = slide_of([predict(CellClass.NEUTROPHIL, 0.97)] * 2)
    measured = replace(result, cells=(replace(result.cells[0], diameter_um=14.3), result.cells[1]))
    (tmp_path / "report.html").write_text(render_report(measured, fakes.provenance()))
    window.open(tmp_path / "report.html")
    click(window, 1)
    assert window.text("#selected-name").endswith("neutrophil 0.97; 14.3 µm")
    click(window, 2)
    assert window.text("#selected-name").endswith("neutrophil 0.97")


def test_command_click_adds_one_cell(gallery):
    first, _, third, *_ = rows(gallery, REVIEW)
    click(gallery, first)
    click(gallery, third, Keys.META)
    assert selected(gallery) == [first, third]


def test_shift_click_selects_range_in_either_direction(gallery):
    tiles = rows(gallery, REVIEW)
    click(gallery, tiles[4])
    click(gallery, tiles[7], Keys.SHIFT)
    assert selected(gallery) == tiles[4:8]
    click(gallery, tiles[2], Keys.SHIFT)
    assert selected(gallery) == tiles[2:5]


def test_shift_arrow_extends_and_shrinks_selection(gallery):
    tiles = rows(gallery, REVIEW)
    focus(gallery, REVIEW)
    for _ in range(3):
        chord(gallery, Keys.SHIFT, Keys.ARROW_RIGHT)
    assert selected(gallery) == tiles[:4]
    chord(gallery, Keys.SHIFT, Keys.ARROW_LEFT)
    assert selected(gallery) == tiles[:3]
    gallery.press(Keys.ESCAPE)
    assert selected(gallery) == [tiles[2]]


def test_shift_end_selects_rest_of_group(gallery):
    group = rows(gallery, "#group-review-monocyte .cell")
    focus(gallery, f"#cell-{group[3]}")
    chord(gallery, Keys.SHIFT, Keys.END)
    assert selected(gallery) == group[3:]
    gallery.press(Keys.HOME)
    assert selected(gallery) == group[:1]


def test_control_arrow_and_space_select_cells_that_are_apart(gallery):
    tiles = rows(gallery, REVIEW)
    focus(gallery, REVIEW)
    chord(gallery, Keys.CONTROL, Keys.ARROW_RIGHT)
    chord(gallery, Keys.CONTROL, Keys.ARROW_RIGHT)
    assert selected(gallery) == tiles[:1]
    chord(gallery, Keys.CONTROL, Keys.SPACE)
    assert selected(gallery) == [tiles[0], tiles[2]]
    gallery.press(Keys.SPACE)
    assert selected(gallery) == tiles[:1]
    assert gallery.js("scrollY") == gallery.js("(scrollBy(0, 0), scrollY)")


@pytest.mark.parametrize("way", ["key", "button"])
def test_select_all_selects_the_group_alone(gallery, way):
    group = rows(gallery, "#group-review-lymphocyte .cell")
    if way == "key":
        focus(gallery, f"#cell-{group[5]}")
        chord(gallery, Keys.CONTROL, "a")
    else:
        gallery.click("#group-review-lymphocyte .select-group")
    assert selected(gallery) == group
    assert f"{len(group)} cells selected" in gallery.text("#selected-cells")
    assert gallery.js("document.activeElement.closest('.group').id") == "group-review-lymphocyte"


# --- moving ---


def test_key_moves_all_selected_cells_and_one_undo_moves_them_back(gallery):
    before, table = n_review(gallery), gallery.text("#differential")
    tiles = rows(gallery, REVIEW)
    focus(gallery, REVIEW)
    for _ in range(4):
        chord(gallery, Keys.SHIFT, Keys.ARROW_RIGHT)
    gallery.press("4")
    assert n_review(gallery) == before - 5
    assert set(tiles[:5]) <= set(rows(gallery, "#group-eosinophil .cell"))
    assert "5 cells moved to eosinophil (cells moved: 5, not saved yet)" in status(gallery)
    assert selected(gallery) == [tiles[5]]  # the next one
    chord(gallery, Keys.CONTROL, "z")
    assert gallery.text("#differential") == table
    assert rows(gallery, REVIEW) == tiles  # each in its place
    assert selected(gallery) == tiles[:5]
    assert "5 cells moved back (cells moved: 0" in status(gallery)
    assert gallery.js("document.getElementById('undo').disabled")


def test_undo_goes_back_step_by_step(gallery):
    before = n_review(gallery)
    focus(gallery, REVIEW)
    gallery.press("1")
    chord(gallery, Keys.SHIFT, Keys.ARROW_RIGHT)
    gallery.press("x")
    assert n_review(gallery) == before - 3
    gallery.click("#undo")
    assert n_review(gallery) == before - 1
    gallery.click("#undo")
    assert n_review(gallery) == before


def test_category_button_moves_all_selected_cells(gallery):
    group = rows(gallery, "#group-review-monocyte .cell")
    gallery.click("#group-review-monocyte .select-group")
    gallery.click("#category-buttons [data-category='lymphocyte']")
    assert set(group) <= set(rows(gallery, "#group-lymphocyte .cell"))
    assert gallery.js("document.getElementById('group-review-monocyte').hidden")


@pytest.mark.parametrize("way", ["group button", "keys", "panel button"])
def test_accept_moves_group_to_its_proposed_class(gallery, way):
    group = rows(gallery, "#group-review-lymphocyte .cell")
    if way == "group button":
        assert gallery.text("#group-review-lymphocyte .accept-group") == f"Accept {len(group)} as lymphocyte"
        gallery.click("#group-review-lymphocyte .accept-group")
    else:
        focus(gallery, f"#cell-{group[0]}")
        chord(gallery, Keys.CONTROL, "a")
        gallery.press("a") if way == "keys" else gallery.click("#accept")
    assert rows(gallery, "#group-lymphocyte .cell") == group
    assert f"{len(group)} cells moved to lymphocyte" in status(gallery)
    assert gallery.js("document.activeElement.closest('.group').id") == "group-review-monocyte"


def test_accept_cells_of_several_proposals_moves_each_to_its_own(gallery):
    last, *_ = rows(gallery, "#group-review-lymphocyte .cell")[::-1]
    first = rows(gallery, "#group-review-monocyte .cell")[0]
    click(gallery, last)
    click(gallery, first, Keys.SHIFT)
    gallery.press("a")
    assert "2 cells moved to lymphocyte, monocyte" in status(gallery)
    assert rows(gallery, "#group-monocyte .cell") == [first]


def test_accept_leaves_cells_whose_classes_are_not_to_be_relied_on(gallery):
    odd, before = rows(gallery, "#group-review-out_of_distribution .cell"), n_review(gallery)
    gallery.click("#group-review-out_of_distribution .select-group")
    assert gallery.js("document.getElementById('accept').disabled")
    gallery.press("a")
    left = "Cells left where they are, because their classes are not to be relied on: "
    assert f"{left}8 (cells moved: 0)" in status(gallery)
    assert selected(gallery) == odd
    click(gallery, rows(gallery, "#group-review-neutrophil .cell")[0])
    assert not gallery.js("document.getElementById('accept').disabled")
    click(gallery, odd[-2], Keys.SHIFT)
    gallery.press("a")
    assert f"moved to neutrophil. {left}2 (cells moved: 1," in status(gallery)
    assert rows(gallery, "#group-review-out_of_distribution .cell") == odd
    assert n_review(gallery) == before - 1
    gallery.press("2")
    assert n_review(gallery) == before - 2


def test_cells_unlike_training_have_no_accept_button(gallery):
    assert gallery.js("document.querySelector('#group-review-out_of_distribution .accept-group')") is None


def test_accept_counted_cells_moves_nothing_and_says_so(gallery):
    focus(gallery, "#group-eosinophil .cell")
    gallery.press("a")
    assert "Only cells in review have a proposed class (cells moved: 0" in status(gallery)


def test_last_cell_in_review_keeps_focus_so_that_one_more_key_moves_no_other(gallery):
    for _ in range(len([*LABELS, *ODD_LABELS])):
        if not n_review(gallery):
            break
        focus(gallery, REVIEW)
        chord(gallery, Keys.CONTROL, "a")
        gallery.press("2")
    assert n_review(gallery) == 0
    counted = gallery.text("tr[data-class='lymphocyte'] [data-value='n']")
    gallery.press("2", "2")
    assert gallery.text("tr[data-class='lymphocyte'] [data-value='n']") == counted
    assert gallery.text("tr[data-class='eosinophil'] [data-value='n']") == str(N_COUNTED // 3)


def test_key_a_held_down_accepts_once(gallery):
    before = n_review(gallery)
    focus(gallery, "#group-review-neutrophil .cell")
    gallery.js(
        """[false, true, true].forEach(repeat => document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', { key: 'a', bubbles: true, repeat })))"""
    )
    assert n_review(gallery) == before - 1
    gallery.press(Keys.ARROW_RIGHT)  # Chromium asks about an unsaved review only after a real key


def test_cell_moved_to_review_joins_group_of_its_label(gallery):
    focus(gallery, "#group-eosinophil .cell")
    row = rows(gallery, "#group-eosinophil .cell")[0]
    gallery.press("r")
    assert rows(gallery, "#group-review-eosinophil .cell") == [row]
    assert gallery.js("document.getElementById('group-review-eosinophil').offsetHeight") > 0


def test_comment_by_keyboard_goes_to_all_selected_cells(gallery):
    first, second, third, *_ = rows(gallery, REVIEW)
    focus(gallery, REVIEW)
    gallery.press("c", "b", "1", Keys.ENTER)
    assert gallery.js("document.activeElement.id") == f"cell-{first}"
    gallery.press(Keys.ARROW_RIGHT)
    assert gallery.js("document.getElementById('cell-comment').value") == ""
    chord(gallery, Keys.SHIFT, Keys.ARROW_RIGHT)
    assert gallery.text("#cell-comment-label") == "Comment on the 2 selected cells"
    gallery.press("c", "x", Keys.ESCAPE)
    assert gallery.js("document.activeElement.id") == f"cell-{third}"
    assert selected(gallery) == [second, third]
    click(gallery, first, Keys.CONTROL)
    assert gallery.js("document.getElementById('cell-comment').placeholder") == "their comments differ"
    gallery.type_into("#initials", "AB")
    gallery.click("#save")
    review = json.loads(gallery.downloaded("review-*.json").read_text())
    comments = {cell["row"]: (cell["from"], cell["to"], cell["comment"]) for cell in review["cells"]}
    stays = ("review", "review")
    assert comments == {first: (*stays, "b1"), second: (*stays, "x"), third: (*stays, "x")}


def test_comment_cannot_be_typed_without_a_cell(gallery):
    focus(gallery, REVIEW)
    chord(gallery, Keys.CONTROL, Keys.SPACE)
    assert gallery.js("document.getElementById('cell-comment').offsetHeight") == 0
    gallery.press("c", "1")
    assert selected(gallery) == []


def test_saved_review_lists_all_moved_cells(gallery):
    group = rows(gallery, "#group-review-lymphocyte .cell")
    gallery.click("#group-review-lymphocyte .accept-group")
    gallery.type_into("#initials", "AB")
    gallery.click("#save")
    review = json.loads(gallery.downloaded("review-ward-s1-*.json").read_text())
    assert [cell["row"] for cell in review["cells"]] == sorted(group)
    assert {(cell["from"], cell["to"]) for cell in review["cells"]} == {("review", "lymphocyte")}


# --- what is shown ---


def test_filter_shows_cells_of_a_confidence_and_selection_keeps_to_them(gallery):
    set_range(gallery, "#min-confidence", 0.6)
    set_range(gallery, "#max-confidence", 0.9)
    shown = gallery.js(
        "[...document.querySelectorAll('.cell')].filter(t => t.offsetParent).map(t => +t.dataset.confidence)"
    )
    assert shown
    assert all(0.6 <= confidence <= 0.9 for confidence in shown)
    assert gallery.text("#shown-cells") == f"{len(shown)} of {100 + N_COUNTED} cells shown"
    total, group = n_review(gallery), "#group-review-lymphocyte"
    n = len(gallery.js("[...document.querySelectorAll(arguments[0])].filter(t => t.offsetParent)", f"{group} .cell"))
    assert 0 < n < len(rows(gallery, f"{group} .cell"))
    assert gallery.text(f"{group} .accept-group") == f"Accept {n} as lymphocyte"
    gallery.click(f"{group} .accept-group")
    assert n_review(gallery) == total - n


def test_filter_is_named_in_headings_and_hides_sections_without_cells(gallery):
    heading = "(e => e.innerText.replace(/\\s+/g, ' '))(document.querySelector(arguments[0]))"
    before = gallery.js(heading, "#heading-eosinophil")
    assert before == f"Eosinophil: {N_COUNTED // 3}"
    set_range(gallery, "#max-confidence", 0.9)
    assert gallery.js("document.getElementById('category-eosinophil').hidden")
    assert gallery.js(heading, "#heading-review") == "To review: 100"
    set_range(gallery, "#max-confidence", 0.65)
    for selector, total in (("review", 100), ("review-lymphocyte", 27)):
        tiles = f"#{'category' if selector == 'review' else 'group'}-{selector} .cell"
        n = gallery.js("[...document.querySelectorAll(arguments[0])].filter(t => t.offsetParent).length", tiles)
        assert 0 < n < total
        assert gallery.js(heading, f"#heading-{selector}").endswith(f": {n} of {total} shown")
    set_range(gallery, "#max-confidence", 1)
    assert gallery.js(heading, "#heading-eosinophil") == before
    assert not gallery.js("document.getElementById('category-eosinophil').hidden")


def test_filter_drops_hidden_cells_from_selection(gallery):
    focus(gallery, "#group-review-monocyte .cell")
    chord(gallery, Keys.CONTROL, "a")
    set_range(gallery, "#min-confidence", 0.75)
    assert all(
        gallery.js("document.getElementById(arguments[0]).offsetParent !== null", f"cell-{r}")
        for r in selected(gallery)
    )
    set_range(gallery, "#max-confidence", 0.0)
    assert gallery.js("document.getElementById('min-confidence').value") == "0"
    assert selected(gallery) == []
    assert gallery.js("document.querySelector('[data-category=\"monocyte\"]').disabled")
    set_range(gallery, "#max-confidence", 1.0)
    assert gallery.js("document.querySelectorAll('.cell[tabindex=\"0\"]').length") == 1


def test_cell_size_changes_tiles_and_is_remembered(gallery, many_page):
    width = "document.querySelector('.cell').offsetWidth"
    before = gallery.js(width)
    focus(gallery, "#cell-size")
    gallery.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    larger = gallery.js(width)
    assert larger > before
    gallery.open(many_page)
    assert gallery.js(width) == larger
    assert gallery.js("document.getElementById('cell-size').value") == "244"


@pytest.mark.parametrize("width", [1000, 1400, 2200])
def test_gallery_takes_the_windows_width(window, many_page, width):
    window.open(many_page, width=width)
    right = window.js("Math.max(...[...document.querySelectorAll('.cell')].map(t => t.getBoundingClientRect().right))")
    panel = window.js("document.getElementById('panel').getBoundingClientRect().left")
    assert panel - right < 210  # less than one more column


def test_print_has_cells_without_controls_and_marks_of_selection(window, many_page):
    window.open(many_page, media="print")
    focus(window, REVIEW)
    for selector in ("#gallery-options", ".group-actions", "#panel"):
        assert window.js("document.querySelector(arguments[0]).offsetHeight", selector) == 0
    style = window.js("(s => [s.boxShadow, s.outlineStyle])(getComputedStyle(document.activeElement))")
    assert style == ["none", "none"]


# --- accessibility and keystrokes ---


def test_groups_are_listboxes_of_several_options(gallery):
    group = "document.querySelector('#group-review-neutrophil .tiles')"
    assert gallery.js(f"[{group}.role, {group}.ariaMultiSelectable]") == ["listbox", "true"]
    assert gallery.js(f"[...{group}.children].every(t => t.role === 'option' && t.ariaSelected === 'false')")
    heading = "document.getElementById(list.getAttribute('aria-labelledby')).textContent.trim()"
    assert all(gallery.js(f"[...document.querySelectorAll('[role=listbox]')].map(list => {heading})"))
    for place in ("#review-status", "#selected-cells", "#shown-cells"):
        assert gallery.js("document.querySelector(arguments[0]).getAttribute('role')", place) == "status"


def test_selected_cells_have_no_accessibility_violation(gallery):
    axe = pytest.importorskip("axe_core_python")
    focus(gallery, "#group-review-monocyte .cell")
    chord(gallery, Keys.CONTROL, "a")
    gallery.driver.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    parts = "['#gallery-options', '#group-review-monocyte', '#panel']"
    found = gallery.driver.execute_async_script(f"axe.run({{include: {parts}}}).then(arguments[0])")
    assert found["passes"]
    serious = {"serious", "critical", "moderate"}
    assert [(v["id"], v["nodes"][0]["target"]) for v in found["violations"] if v["impact"] in serious] == []


@pytest.mark.parametrize("share", [0, 1500])
def test_report_with_large_numbers_fits_a_phone(window, tmp_path, share):
    result = slide_of([predict(CellClass.NEUTROPHIL, 0.99)] * 1999 + [predict(CellClass.BASOPHIL, 0.99)] * share)
    path = tmp_path / "report.html"
    provenance = replace(fakes.provenance(), reference_source="ARUP Laboratories, adults")
    path.write_text(render_report(keep_shown(result), provenance))
    window.open(path, width=375)
    window.screenshot(f"large-numbers-{share}")
    assert window.js("document.documentElement.scrollWidth <= innerWidth")
    assert window.js("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)")


def test_review_of_100_cells_takes_fewer_keys_than_cells(gallery, capsys):
    """A reader with the keyboard alone: every seventh proposal is wrong, and cells unlike the training have none."""
    wrong = {row: "45"[i % 2] for i, row in enumerate(rows(gallery, REVIEW)) if i % 7 == 0}
    wrong |= dict.fromkeys(rows(gallery, "#group-review-out_of_distribution .cell"), "6")
    n_cells, n_keys = n_review(gallery), 0
    focus(gallery, REVIEW)
    while n_review(gallery):
        group = gallery.js("document.activeElement.closest(`.group`).id")
        for row in [row for row in rows(gallery, f"#{group} .cell") if row in wrong]:
            n_keys += go_to(gallery, row) + 1
            gallery.press(wrong.pop(row))
        if gallery.js("document.activeElement.closest(`.group`).id") == group:
            chord(gallery, Keys.CONTROL, "a")
            gallery.press("a")
            n_keys += 2
    with capsys.disabled():
        print(f"\n  review of {n_cells} cells: {n_keys} keys")
    assert n_keys < 0.8 * n_cells


def go_to(window: Window, row: int) -> int:
    """Go to a cell with the arrow keys, by rows and then within the row; return the number of keys."""
    top = "Math.round(document.getElementById(arguments[0]).getBoundingClientRect().top)"
    focused = "Math.round(document.activeElement.getBoundingClientRect().top)"
    n = 0
    while (difference := window.js(f"{top} - {focused}", f"cell-{row}")) != 0:
        window.press(Keys.ARROW_DOWN if difference > 0 else Keys.ARROW_UP)
        n += 1
    order = rows(window, ".cell:not([hidden])")
    steps = order.index(row) - order.index(int(window.js("document.activeElement.dataset.row")))
    window.press(*[Keys.ARROW_RIGHT if steps > 0 else Keys.ARROW_LEFT] * abs(steps))
    return n + abs(steps)


def test_rows_of_subtypes_follow_the_cells_that_are_moved(window: Window, tmp_path: Path) -> None:
    band = replace(predict(CellClass.NEUTROPHIL, 0.9), subtype=Subtype.BAND)
    unsure = replace(predict(CellClass.NEUTROPHIL, 0.5, Reason.LOW_CONFIDENCE), subtype=Subtype.SEGMENTED)
    cells = [band, band, unsure, predict(CellClass.LYMPHOCYTE, 0.9)]
    (tmp_path / "report.html").write_text(render_report(slide_of(cells), fakes.provenance()))
    window.open(tmp_path / "report.html")
    script = """[...document.querySelectorAll("tr.subtype")].map(row => [row.dataset.subtype,
      ...[...row.querySelectorAll("[data-value]")].map(cell => cell.textContent.trim())])"""

    def shown() -> dict[str, list[str]]:
        return {name: values for name, *values in window.js(script)}

    assert shown() == {"band": ["2", "66.7"], "segmented": ["0", "0.0"], "": ["0", "0.0"]}
    for row, key in ((1, "2"), (3, "1"), (4, "1")):  # a band to the lymphocytes, the others to the neutrophils
        focus(window, f"#cell-{row}")
        window.press(key)
    assert shown() == {"band": ["1", "25.0"], "segmented": ["1", "25.0"], "": ["1", "25.0"]}

"""A review from the first key press to the audit log, in a browser."""

import csv
import json
import re
import shutil

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app
from wbctool.stages.differential import clopper_pearson_interval

SLIDE = "ward 3/<flags>"
Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed").Keys


def wbctool(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def folder(out):
    return out.with_suffix("") / SLIDE


def differential(out):
    with (folder(out) / "differential.csv").open(newline="", encoding="utf-8") as lines:
        return {row["class"]: row for row in csv.DictReader(lines)}


def counts(out):
    with out.open(newline="", encoding="utf-8") as lines:
        return {row["slide"]: row for row in csv.DictReader(lines)}


def shown_table(window):
    """Return the table on the page: n, percent and interval by class."""
    script = """[...document.querySelectorAll('#differential tbody tr')].map(row => [row.dataset.class,
      ...['n', 'percent', 'ci'].map(value => row.querySelector(`[data-value=${value}]`).textContent.trim())])"""
    return {name: values for name, *values in window.js(script)}


def expected_table(out):
    """Return what the page should show of differential.csv: the same with one decimal."""
    numbers = {name: int(row["n"]) for name, row in differential(out).items()}
    return {name: shown_row(n, sum(numbers.values())) for name, n in numbers.items()}


def shown_row(n, total):
    """Return n, percent and interval as the page shows them."""
    low, high = clopper_pearson_interval(n, total)
    return [str(n), f"{100 * n / total:.1f}", f"{low:.1f} – {high:.1f}"]


def categories_by_row(out):
    """Return the category of each cell by its row in cells.csv."""
    with (folder(out) / "cells.csv").open(newline="", encoding="utf-8") as lines:
        return {
            i: row["label"]
            if row["outcome"] == "counted"
            else row["reason"]
            if row["outcome"] == "not_wbc"
            else "review"
            for i, row in enumerate(csv.DictReader(lines), 1)
        }


def save(window, initials="AB"):
    window.driver.find_element("id", "initials").clear()
    window.type_into("#initials", initials)
    window.click("#save")
    path = window.downloaded("review-ward 3--flags--*.json")
    assert window.text("#review-status").endswith(
        f'the laboratory runs: wbctool review apply OUT "{path.name}", where OUT is the table of all slides'
    )
    return path


def read_reviews(out):
    """Return the reviews in the audit log."""
    entries = [json.loads(line) for line in (out.with_suffix("") / "audit.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["event"] == "review"]


def focused_row(window):
    return int(window.js("document.activeElement.dataset.row"))


@pytest.fixture
def review(window, out):
    """Move three cells by keyboard, one with a comment; return the saved file and the rows."""
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('.cell').focus()")
    rows = []
    for key in ("3", "x", "6"):
        rows.append(focused_row(window))
        window.press(key)
    window.screenshot("flags-moved")
    window.js(f"document.getElementById('cell-{rows[0]}').focus()")
    window.type_into("#cell-comment", "band? <b>")
    window.type_into("#slide-comment", "looked at all in review")
    return save(window), rows


def test_key_press_updates_counts_and_undo_restores_them(window, out):
    window.open(folder(out) / "report.html")
    assert shown_table(window) == expected_table(out)
    before = counts(out)[SLIDE]
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3")
    assert shown_table(window)["monocyte"][0] == str(int(before["monocyte_n"]) + 1)
    n, total = int(before["neutrophil_n"]), int(before["counted"]) + 1
    assert shown_table(window)["neutrophil"] == shown_row(n, total)
    assert window.text("#n-review") == str(int(before["review"]) - 1)
    assert f"Differential of {total} counted" in window.text("#verdict") or f"{total} counted" in window.text(
        "#verdict"
    )
    window.click("#undo")
    assert shown_table(window) == expected_table(out)


def test_key_held_down_moves_one_cell(window, out):
    window.open(folder(out) / "report.html")
    before = counts(out)[SLIDE]
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3")
    window.js(
        """[1, 2, 3].forEach(() => document.activeElement.dispatchEvent(
        new KeyboardEvent('keydown', { key: '3', bubbles: true, repeat: true })))"""
    )
    assert window.text("#n-review") == str(int(before["review"]) - 1)


def test_verdict_crosses_threshold_as_applied_review_does(window, out, run_again):
    shutil.rmtree(out.parent / "slides" / "normal")
    counted = int(counts(out)[SLIDE]["counted"])
    run_again(low_count_below=counted + 1)
    window.open(folder(out) / "report.html")
    few, enough = f"Too few cells for a differential: {counted} counted", f"Differential of {counted + 1} counted cells"
    assert window.text("#verdict").startswith(few)
    window.js("document.querySelector('#category-review .cell').focus()")
    row = focused_row(window)
    window.press("3")
    assert window.text("#verdict").startswith(enough)
    window.js(f"document.getElementById('cell-{row}').focus()")
    window.press("r")
    assert window.text("#verdict").startswith(few)
    window.press("3")
    last_verdict = window.text("#verdict")
    assert last_verdict.startswith(enough)
    applied = wbctool("review", "apply", out, save(window))
    assert applied.exit_code == 0, applied.output
    assert "low_count" not in counts(out)[SLIDE]["flags"]
    page = (folder(out) / "report.html").read_text()
    assert f'id="verdict">{last_verdict}</p>' in page


def test_verdict_of_an_unfamiliar_slide_names_the_cells_of_the_reader(window, out):
    window.open(folder(out) / "report.html")
    texts = {
        "counted": "{counted} sure",
        "moved": "Unfamiliar{not_yet}: {counted}, {named} named{in_review}",
        "review": "; {review} in review",
        "not_yet": ", not yet",
    }
    cells = [["neutrophil", "neutrophil"], ["monocyte", "review"], ["artefact", "review"], ["review", "review"]]

    def verdict(cells):
        return window.js(
            """Counts.verdict(Counts.count(
                arguments[0].map(([category, toolCategory]) => ({ category, toolCategory })),
                ["neutrophil", "monocyte", "review", "artefact"], ["neutrophil", "monocyte"]), arguments[1], 0)""",
            cells,
            texts,
        )

    assert verdict(cells) == "Unfamiliar, not yet: 2, 1 named; 1 in review"
    assert verdict(cells[:3]) == "Unfamiliar: 2, 1 named"
    assert verdict(cells[:1]) == "1 sure"


def test_review_applied_updates_tables_and_audit_log(window, out, review):
    path, rows = review
    original = categories_by_row(out)
    on_page = shown_table(window)
    saved = json.loads(path.read_text())
    assert saved["results"] == fakes.hash_cells(folder(out) / "cells.csv")
    assert [(c["row"], c["from"], c["to"]) for c in saved["cells"]] == sorted(
        (row, "review", category)
        for row, category in zip(rows, ("monocyte", "artefact", "immature_granulocyte"), strict=True)
    )
    applied = wbctool("review", "apply", out, path)
    assert applied.exit_code == 0, applied.output
    assert expected_table(out) == on_page  # what the reader saw is what the tables say
    assert {row for row, category in categories_by_row(out).items() if category != original[row]} == set(rows)
    assert counts(out)[SLIDE]["review"] == str(
        sum(category == "review" for category in categories_by_row(out).values())
    )
    entries = [json.loads(line) for line in (out.with_suffix("") / "audit.jsonl").read_text().splitlines()]
    assert [(entry["event"], entry["reader"]) for entry in entries] == [("cell", "AB")] * 3 + [("review", "AB")]
    assert [entry["comment"] for entry in entries if entry["event"] == "cell" and entry["row"] == rows[0]] == [
        "band? <b>"
    ]
    assert wbctool("review", "verify", out).exit_code == 0


def test_cells_moved_together_are_applied_one_by_one(window, out):
    window.open(folder(out) / "report.html")
    rows = window.js("[...document.querySelectorAll('#category-review .cell')].map(tile => +tile.dataset.row)")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.driver.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.NULL)
    window.press("2")
    applied = wbctool("review", "apply", out, save(window))
    assert applied.exit_code == 0, applied.output
    categories = categories_by_row(out)
    assert [categories[row] for row in rows[:3]] == ["lymphocyte"] * 3
    entries = [json.loads(line) for line in (out.with_suffix("") / "audit.jsonl").read_text().splitlines()]
    assert sorted(entry["row"] for entry in entries if entry["event"] == "cell") == sorted(rows[:3])


def test_reviewed_report_names_reader_and_can_be_reviewed_again(window, out, review):
    wbctool("review", "apply", out, review[0])
    window.open(folder(out) / "report.html", "dark")
    window.screenshot("flags-reviewed")
    assert "Reviewed by AB" in window.text(".review-state")
    assert "tool: review" in window.text(f"#cell-{review[1][0]}")
    assert shown_table(window) == expected_table(out)
    window.js(f"document.getElementById('cell-{review[1][0]}').focus()")
    window.press("r")
    review[0].unlink()
    applied = wbctool("review", "apply", out, save(window, "CD"))
    assert applied.exit_code == 0, applied.output
    assert categories_by_row(out)[review[1][0]] == "review"
    window.open(out.with_suffix("") / "index.html")
    assert "AB, CD" in window.text("tbody")
    assert wbctool("review", "verify", out).exit_code == 0


def test_second_save_of_a_page_is_applied_and_loses_nothing(window, out):
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3")
    window.type_into("#initials", "AB")
    window.click("#save")
    first = window.downloaded("review-*.json")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("6")
    window.click("#save")
    second = window.downloaded("review-*.json", n=2)
    applied = wbctool("review", "apply", out, window.downloads)
    assert (applied.exit_code, applied.stderr) == (0, "")
    assert f"{first}: not applied, because the same reader saved {second} later" in applied.stdout
    assert expected_table(out) == shown_table(window)
    assert [entry["moved"] for entry in read_reviews(out)] == [2]


def reopen(window, out):
    """Close the report, and open it again."""
    window.leave()
    window.open(folder(out) / "report.html")


def test_reopened_report_goes_on_with_unsaved_review(window, out):
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3", "6")
    rows = window.js("[...document.querySelectorAll('.by-reader')].map(mark => +mark.parentNode.dataset.row)")
    table = shown_table(window)
    window.js(f"document.getElementById('cell-{rows[0]}').focus()")
    window.type_into("#cell-comment", "band?")
    window.type_into("#slide-comment", "thick")
    window.type_into("#initials", "AB")
    reopen(window, out)
    assert shown_table(window) == table
    assert window.text("#review-status") == "Your review goes on where you left it (cells moved: 2, not saved yet)"
    window.click("#save")
    saved = json.loads(window.downloaded("review-*.json").read_text())
    assert sorted(cell["row"] for cell in saved["cells"]) == sorted(rows)
    assert (saved["reader"], saved["comment"]) == ("AB", "thick")
    assert {cell["row"]: cell["comment"] for cell in saved["cells"]} == {rows[0]: "band?", rows[1]: ""}
    window.click("#undo")
    assert "cells moved: 1, changes since then not saved yet" in window.text("#review-status")
    window.click("#undo")
    assert shown_table(window) == expected_table(out)


def test_reopened_report_says_that_its_review_was_saved_until_it_is_applied(window, out):
    window.open(folder(out) / "report.html")
    window.type_into("#slide-comment", "no cell moved, so the results stay the same")
    path = save(window)
    reopen(window, out)
    said = r"Saved by AB \d\d:\d\d, not yet applied \(cells moved: 0\)"
    assert re.fullmatch(said, window.text("#review-status"))
    assert wbctool("review", "apply", out, path).exit_code == 0
    reopen(window, out)
    assert window.text("#review-status") == ""
    assert window.js("document.getElementById('slide-comment').value") == ""
    assert window.js("document.getElementById('initials').value") == "AB"


def test_kept_review_is_of_its_reader(window, out):
    """On a shared computer the next reader begins anew, and one who has not said who they are is told whose it is."""
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3")
    window.type_into("#initials", "AB")
    window.js("sessionStorage.setItem('wbctool.initials', 'CD')")
    reopen(window, out)
    assert shown_table(window) == expected_table(out)
    window.js("sessionStorage.clear()")
    reopen(window, out)
    assert window.text("#review-status").startswith("The review of AB goes on where it was left")
    assert window.js("document.getElementById('initials').value") == "AB"
    window.click("#undo")
    assert shown_table(window) == expected_table(out)


def test_original_report_shows_no_kept_review(window, out):
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('#category-review .cell').focus()")
    window.press("3")
    original = folder(out) / "original-report.html"
    original.write_bytes((folder(out) / "report.html").read_bytes())
    window.leave()
    window.open(original)
    assert shown_table(window) == expected_table(out)


def test_report_works_if_the_browser_keeps_nothing(window, out):
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } });"
    added = window.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        window.open(folder(out) / "report.html")
        window.js("document.querySelector('#category-review .cell').focus()")
        window.press("3")
        assert len(json.loads(save(window).read_text())["cells"]) == 1
    finally:
        window.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]})


def test_tampered_review_is_rejected(window, out, review):
    before = {path: path.read_bytes() for path in folder(out).iterdir()}
    saved = json.loads(review[0].read_text())
    saved["cells"][0]["from"] = "neutrophil"
    review[0].write_text(json.dumps(saved))
    applied = wbctool("review", "apply", out, review[0])
    assert applied.exit_code == 1
    assert "the review moves it from 'neutrophil', but it is in 'review'" in applied.output
    assert {path: path.read_bytes() for path in folder(out).iterdir()} == before
    assert not (out.with_suffix("") / "audit.jsonl").exists()


def test_save_without_initials_is_rejected(window, out):
    window.open(folder(out) / "report.html")
    window.click("#save")
    assert "initials" in window.text("#review-status")
    assert list(window.downloads.iterdir()) == []


def test_mouse_selects_and_moves_cell(window, out):
    window.open(folder(out) / "report.html")
    window.click("#category-neutrophil .cell")
    assert window.js("document.getElementById('panel-field-image').src").startswith("data:image/jpeg")
    assert window.js("document.querySelectorAll('#panel-field-box .box').length") == 1
    window.click("#show-cam")
    assert window.js("document.getElementById('cam').offsetWidth") > 80
    window.screenshot("flags-chosen")
    window.click("#category-buttons button[data-category='lymphocyte']")
    assert "cells moved: 1, not saved yet" in window.text("#review-status")


def test_arrow_keys_select_cells_and_comment_takes_letters(window, out):
    window.open(folder(out) / "report.html")
    window.js("document.querySelector('.cell').focus()")
    first = focused_row(window)
    window.press(Keys.ARROW_RIGHT)
    second = focused_row(window)
    window.press(Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert first != second
    assert focused_row(window) == first
    before = shown_table(window)
    window.type_into("#cell-comment", "r x 1 2 3")
    assert shown_table(window) == before


def test_gallery_has_one_tab_stop(window, out):
    window.open(folder(out) / "report.html")
    assert window.js("document.querySelectorAll('.cell[tabindex=\"0\"]').length") == 1


def test_binomial_interval_matches_scipy(window, out):
    """Compare with scipy, also for large counts and for a class that has all cells."""
    window.open(folder(out) / "report.html")
    cases = [
        (n, total) for total in (1, 2, 7, 99, 100, 200, 1000, 20_000) for n in {0, 1, total // 3, total - 1, total}
    ]
    for n, total in cases:
        assert window.js("Binomial.interval(...arguments)", n, total) == pytest.approx(
            clopper_pearson_interval(n, total), abs=1e-8
        )


def test_one_decimal_matches_python_format(window, out):
    window.open(folder(out) / "report.html")
    values = [100 * n / total for total in (800, 160, 7, 32, 400) for n in range(0, total + 1, 3)]
    assert window.js("arguments[0].map(Binomial.oneDecimal)", values) == [f"{value:.1f}" for value in values]

"""`wbctool label` as a laboratory calls it, on a run with fake stages."""

import json
import re
import shutil

import pytest

from wbctool.errors import FieldUnreadable
from wbctool.report.gallery import MAX_CELLS_PER_CLASS


@pytest.fixture
def done(run):
    run()
    return run


def test_label_writes_page_beside_the_table(cli, done):
    """Of 15 cells nine neutrophils look alike, and so do those of two slides."""
    result = cli("label", done.out, "--cells", 6)
    page = done.out.parent / "counts-label.html"
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{page} written: 6 cells of 2 slides, 2 of them at random; ")
    assert result.stderr == ""
    first = page.read_bytes()
    assert cli("label", done.folder, "--cells", 6).exit_code == 0
    assert page.read_bytes() == first


def test_label_says_if_there_are_fewer_cells_that_differ(cli, done, tmp_path):
    result = cli("label", done.out, "--to", tmp_path / "new" / "label.html")
    assert result.exit_code == 0
    assert "no more than 6 cells" in result.stderr
    assert (tmp_path / "new" / "label.html").is_file()


def test_label_without_the_images_says_so_and_shows_thumbnails(cli, done, tmp_path):
    shutil.move(done.root, tmp_path / "moved")
    result = cli("label", done.out, "--cells", 6)
    assert result.exit_code == 0
    assert "6 cells shown as small as in the report" in result.stderr
    result = cli("label", done.out, "--cells", 6, "--slides", tmp_path / "moved")
    assert (result.exit_code, result.stderr) == (0, "")
    result = cli("label", done.out, "--slides", tmp_path / "gone")
    assert (result.exit_code, result.stdout) == (1, "")


def test_label_leaves_out_cells_that_nothing_shows(cli, run, draw, monkeypatch):
    """The report shows not all of the cells, and the image is there but is not decoded."""
    shutil.rmtree(run.root)
    draw(run.root / "s" / "f.png", ["neutrophil"] * (MAX_CELLS_PER_CLASS + 10))
    run()

    def fail(*_):
        raise FieldUnreadable("not by this decoder")

    monkeypatch.setattr("wbctool.adaptation.cell_images.decode_rgb", fail)
    monkeypatch.setattr("wbctool.adaptation.sampling.NEAR_COPY_LAB", -1)
    result = cli("label", run.out, "--cells", MAX_CELLS_PER_CLASS + 10)
    assert result.exit_code == 0, result.output
    assert re.search(r"\d+ cells left out: their images cannot be decoded", result.stderr)
    assert f"{MAX_CELLS_PER_CLASS} cells of 1 slide" in result.stdout
    assert 'data:image/webp;base64,"' not in (run.out.parent / "counts-label.html").read_text()


@pytest.mark.parametrize("option", [True, False])
def test_label_leaves_a_file_of_others_alone(cli, done, tmp_path, option):
    path = tmp_path / "mine.html" if option else done.out.parent / "counts-label.html"
    path.write_text("<!doctype html><p>mine")
    result = cli("label", done.out, *(["--to", path] if option else []))
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.name in result.stderr
    assert path.read_text() == "<!doctype html><p>mine"


@pytest.mark.parametrize("name", ["counts.csv", "counts/label.html", "counts/s2/report.html"])
def test_label_writes_nothing_inside_the_results(cli, done, name):
    before = done.tree()
    assert cli("label", done.out, "--to", done.out.parent / name).exit_code == 2
    assert done.tree() == before


def test_label_of_slide_without_results_goes_on_and_says_so(cli, done):
    shutil.rmtree(done.folder / "s10")
    result = cli("label", done.out, "--cells", 3)
    assert result.exit_code == 3
    assert "s10 is left out" in result.stderr
    assert "3 cells of 1 slide, 1 of them at random" in result.stdout


def test_label_of_results_without_cells_fails(cli, run, draw):
    shutil.rmtree(run.root)
    draw(run.root / "s" / "f.png", [])
    run()
    result = cli("label", run.out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert not (run.out.parent / "counts-label.html").exists()


def asked(page):
    """Return the labels file of a page whose cells are all named, and the cells by slide, field and number."""
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    time = "2026-11-28T10:00:00Z"
    named = {"label": "monocyte", "time": time, "answer_shown": False}
    cells = [{**cell["entry"], **named} for cell in data["cells"]]
    content = {**data["labels"], "reader": "AB", "created": time, "cells": cells}
    return content, {(cell["slide"], cell["field"], cell["cell"]) for cell in cells}


@pytest.fixture
def unlike(run, draw):
    """A run on twelve cells of which no two look alike."""
    shutil.rmtree(run.root)
    draw(
        run.root / "s" / "f.png",
        [(90 * row, 70 * column, 210 - 70 * column) for row in range(3) for column in range(4)],
    )
    run()
    return run


def test_label_without_cells_named_before_asks_for_others(cli, unlike, tmp_path):
    pages = [tmp_path / f"{number}.html" for number in range(3)]
    cli("label", unlike.out, "--cells", 6, "--to", pages[0])
    content, first = asked(pages[0])
    for name, cells in {"a": content["cells"][:2], "b": content["cells"][2:]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({**content, "cells": cells}))
    files = tmp_path / "a.json", tmp_path / "b.json"
    unlike.model = "cd" * 32  # its answers are others, and its cells the same
    unlike()
    result = cli("label", unlike.out, "--cells", 6, "--to", pages[1], "--without", *files)
    assert result.exit_code == 0, result.output
    assert "6 cells left out: named before" in result.stdout
    _, second = asked(pages[1])
    assert len(first) == len(second) == 6
    assert not first & second
    cli("label", unlike.out, "--cells", 6, "--to", pages[2], "--without", files[0], "--without", files[1])
    assert asked(pages[2])[1] == second


def test_label_without_says_if_all_or_none_are_named(cli, unlike, tmp_path):
    page, labels = tmp_path / "label.html", tmp_path / "labels.json"
    cli("label", unlike.out, "--cells", 12, "--to", page)
    content, cells = asked(page)
    assert len(cells) == 12
    labels.write_text(json.dumps(content))
    result = cli("label", unlike.out, "--without", labels)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "every cell is named already" in result.stderr
    labels.write_text(
        json.dumps({**content, "cells": [{**cell, "field_sha256": "0" * 64} for cell in content["cells"]]})
    )
    result = cli("label", unlike.out, "--cells", 6, "--without", labels)
    assert (result.exit_code, result.stderr) == (0, f"wbctool: {labels}: none of its cells is in these results\n")
    assert "left out" not in result.stdout


def test_label_with_labels_but_no_without_is_wrong_usage(cli, done, tmp_path):
    result = cli("label", done.out, tmp_path / "labels.json")
    assert result.exit_code == 2
    assert "--without" in result.stderr

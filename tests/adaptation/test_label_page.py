import json
import re
from pathlib import Path

import fakes
import pytest

from wbctool.adaptation.candidates import read_candidates
from wbctool.adaptation.cell_images import make_cell_images
from wbctool.adaptation.label_page import LABEL_PAGE_FILE, render_label_page
from wbctool.adaptation.sampling import choose_cells
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.store.ownership import is_own

HOSTILE = "<img src=x onerror=alert(1)>"


def render(output: OutputPaths, name: str = "counts", n_cells: int = 9, classes=tuple(CellClass)) -> str:
    images = FieldImages.find(output, None)
    candidates = read_candidates(output, images)
    chosen = choose_cells(candidates.cells, n_cells)
    cell_images = make_cell_images(output, [candidate for candidate, _ in chosen], images)
    return render_label_page(name, chosen, cell_images, classes, candidates.cells_sha256)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture
def output(run):
    fakes.draw_field(run.root / HOSTILE / "</script>'&\".png".replace("/", ""), list(fakes.COLORS))
    run()
    return OutputPaths(run.out)


def test_same_results_give_the_same_page(output):
    assert render(output) == render(output)


def test_page_of_other_cells_has_another_identity(output):
    assert data_of(render(output))["labels"]["page"] != data_of(render(output, n_cells=6))["labels"]["page"]


def test_names_are_data_and_never_markup(output):
    page = render(output, name=HOSTILE)
    assert page.count("<img ") == 2
    assert page.count("<script") == 2
    data = data_of(page)
    assert any(cell["entry"]["slide"] == HOSTILE for cell in data["cells"])
    assert data["file_stem"] == "labels--img src=x onerror=alert(1)-"


def test_page_fetches_nothing_and_allows_its_own_script_alone(output):
    page = render(output)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]+"', page)


def test_classes_that_the_classifier_does_not_know_are_not_offered(output):
    known = (CellClass.NEUTROPHIL, CellClass.MONOCYTE)
    page = render(output, classes=known)
    offered = re.findall(r'class="answer" data-label="(\w+)" data-key="(\w)"', page)
    assert [pair for pair in offered if pair[1].isdigit()] == [("neutrophil", "1"), ("monocyte", "3")]


def test_only_slides_of_the_page_are_named_as_results(output):
    labels = data_of(render(output, n_cells=3))["labels"]
    assert labels["cells_asked"] == 3
    assert set(labels["results"]) == {cell["entry"]["slide"] for cell in data_of(render(output, n_cells=3))["cells"]}


def test_page_is_known_as_ours_and_other_pages_are_not(output, tmp_path: Path):
    path = tmp_path / "label.html"
    path.write_text(render(output))
    assert is_own(path, LABEL_PAGE_FILE)
    report = output.slide_file("s2", "report.html")
    assert not is_own(report, LABEL_PAGE_FILE)
    path.write_text('<!doctype html>\n<html lang="en">\n<head>\n<title>mine</title>')
    assert not is_own(path, LABEL_PAGE_FILE)

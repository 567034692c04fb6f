import hashlib
import json
import shutil

import fakes
import numpy as np
import pytest

from wbctool.adaptation.candidates import describe_thumbnail, read_candidates
from wbctool.errors import ResultsInvalid
from wbctool.imaging.thumbnails import make_cell_thumbnail
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.report.gallery import MAX_CELLS_PER_CLASS
from wbctool.review.apply import apply_reviews
from wbctool.types.cells import Crop

NO_IMAGES = FieldImages({})


@pytest.fixture
def output(run):
    return OutputPaths(run.out)


def test_all_cells_take_part_with_their_fields_hash(run, output):
    run()
    candidates = read_candidates(output, NO_IMAGES)
    assert len(candidates.cells) == 15
    outcomes = {str(c.cell.prediction.outcome) for c in candidates.cells}
    assert outcomes == {"counted", "review", "not_wbc"}
    for candidate in candidates.cells:
        content = (run.root / candidate.slide / candidate.cell.field).read_bytes()
        assert candidate.field_sha256 == hashlib.sha256(content).hexdigest()
        label = candidate.cell.prediction.label
        assert candidate.probabilities[list(CellClass).index(label)] == candidate.cell.prediction.confidence
    assert candidates.classes == tuple(CellClass)
    assert candidates.cells_sha256 == {
        slide: fakes.hash_cells(output.slide_file(slide, "cells.csv")) for slide in ("s2", "s10")
    }


def test_image_in_two_slides_gives_its_cells_once(run, output):
    shutil.copy(run.root / "s2" / "f1.png", run.root / "s10" / "copy.png")
    run()
    cells = read_candidates(output, NO_IMAGES).cells
    assert len(cells) == 15
    assert len({(c.field_sha256, c.cell.index) for c in cells}) == 15


def test_field_that_shows_the_same_cells_as_another_is_left_out(run, output):
    path = run.root / "s2" / "f1.png"
    resaved = run.root / "s2" / "f9.png"
    fakes.draw_field(resaved, [(201, 0, 0), (0, 201, 0)])  # the cells of f1.png, in another file
    assert resaved.read_bytes() != path.read_bytes()
    run()
    assert run.rows()["s2"]["flags"].find("duplicate_fields") >= 0
    assert {c.cell.field for c in read_candidates(output, NO_IMAGES).cells if c.slide == "s2"} == {"f1.png", "f2.png"}


def test_reviewed_slide_has_the_tools_own_answers(run, output, tmp_path):
    run()
    before = read_candidates(output, NO_IMAGES)
    table = output.slide_file("s2", "cells.csv").read_bytes()
    cell = {"row": 1, "field": "f1.png", "cell": 1, "from": "neutrophil", "to": "basophil", "comment": ""}
    review = {
        "schema": "wbctool-review/1",
        "slide": "s2",
        "results": fakes.hash_cells(output.slide_file("s2", "cells.csv")),
        "reader": "AB",
        "time": "2026-01-02T03:04:05.678Z",
        "comment": "",
        "cells": [cell],
    }
    (tmp_path / "review.json").write_text(json.dumps(review))
    list(apply_reviews(output, [tmp_path / "review.json"]))
    assert output.slide_file("s2", "cells.csv").read_bytes() != table
    after = read_candidates(output, NO_IMAGES)
    assert [c.cell.prediction.label for c in after.cells] == [c.cell.prediction.label for c in before.cells]
    assert after.cells_sha256 == before.cells_sha256


def test_cell_without_picture_needs_its_image(run, output):
    """A report shows the least certain cells of a class alone; a random choice among those would be none."""
    fakes.draw_field(run.root / "big" / "f.png", ["neutrophil"] * (MAX_CELLS_PER_CLASS + 10))
    run()
    n_cells = 15 + MAX_CELLS_PER_CLASS
    without = read_candidates(output, NO_IMAGES)
    assert (len(without.cells), without.unshown) == (n_cells, 10)
    images = FieldImages.find(output, None)
    whole = read_candidates(output, images)
    assert (len(whole.cells), whole.unshown) == (n_cells + 10, 0)
    assert sum(c.descriptor is None for c in whole.cells) == 10


def test_field_of_cells_without_pictures_is_read_once(run, output, monkeypatch):
    fakes.draw_field(run.root / "big" / "f.png", ["neutrophil"] * (MAX_CELLS_PER_CLASS + 10))
    run()
    images = FieldImages.find(output, None)
    reads = []
    monkeypatch.setattr(images, "read", lambda slide, field, _: reads.append((slide, field)) or b"image")
    assert read_candidates(output, images).unshown == 0
    assert reads == [("big", "f.png")]


def test_image_that_changed_since_is_not_read(run, output):
    run()
    images = FieldImages.find(output, None)
    path = run.root / "s2" / "f1.png"
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert images.read("s2", "f1.png", sha256) == content
    path.write_bytes(content + b"\0")
    assert images.read("s2", "f1.png", sha256) is None
    path.unlink()
    assert images.read("s2", "f1.png", sha256) is None
    assert images.read("s2", "gone.png", sha256) is None


@pytest.mark.parametrize("name", ["thumbnails.zip", "cells.csv", "slide.json"])
def test_altered_results_are_refused(run, output, name):
    run()
    path = output.slide_file("s10", name)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ResultsInvalid, match=name):
        read_candidates(output, NO_IMAGES)


def test_descriptor_has_the_colors_of_the_thumbnail_where_they_are():
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:, :20] = 255
    descriptor = describe_thumbnail(make_cell_thumbnail(Crop(rgb)))
    assert descriptor.shape == (8, 8, 3)
    assert descriptor[:, :3, 0].min() > 240
    assert descriptor[:, 5:, 0].max() < 15

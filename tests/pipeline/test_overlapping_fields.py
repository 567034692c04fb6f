"""Runs over fields that are cut from one smear: colored squares are white cells, gray discs red ones."""

from __future__ import annotations

import csv
import json

import cv2
import fakes
import numpy as np
import pytest
from PIL import Image

GRID = fakes.GRID_PX
ROWS, COLUMNS = 12, 30  # of the smear, in cells of the grid
FIELD_ROWS, FIELD_COLUMNS = 12, 16
SECOND = 12  # where the second field begins: four columns are shared
WHITE_CELLS = {(2, 3): "lymphocyte", (5, 13): "neutrophil", (8, 14): "monocyte", (3, 25): "eosinophil"}


@pytest.fixture
def smear():
    return draw_smear(seed=0)


def draw_smear(seed):
    """Draw the white cells among red cells of which no two places look alike."""
    rng = np.random.default_rng(seed)
    rgb = np.full((ROWS * GRID, COLUMNS * GRID, 3), 255, np.uint8)
    for row, column in np.ndindex(ROWS, COLUMNS):
        if rng.random() < 0.5:  # beside the place where the fake detector looks for cells
            center = column * GRID + 28 + int(rng.integers(-2, 3)), row * GRID + 28 + int(rng.integers(-2, 3))
            cv2.circle(rgb, center, int(rng.integers(3, 6)), (170, 120, 130), -1)
    for (row, column), name in WHITE_CELLS.items():
        y, x = row * GRID + 8, column * GRID + 8
        rgb[y : y + fakes.CELL_PX, x : x + fakes.CELL_PX] = fakes.COLORS[name]
    return rgb


def photograph(folder, *places):
    """Write a field of each place, a smear and the column where it begins."""
    folder.mkdir(parents=True)
    for number, (smear, column) in enumerate(places, start=1):
        part = smear[: FIELD_ROWS * GRID, column * GRID : (column + FIELD_COLUMNS) * GRID]
        Image.fromarray(part).save(folder / f"f{number}.png")


def read_cells(run, slide):
    with (run.folder / slide / "cells.csv").open(newline="") as lines:
        return [(row["field"], int(row["cell"]), row["label"]) for row in csv.DictReader(lines)]


def test_shared_cells_are_counted_once(run, smear):
    photograph(run.root / "scan", (smear, 0), (smear, SECOND))
    assert run() == 0
    row = run.rows()["scan"]
    assert (row["cells"], row["counted"], row["flags"]) == ("4", "4", "low_count;overlapping_fields")
    assert read_cells(run, "scan") == [
        *(("f1.png", 1, "lymphocyte"), ("f1.png", 2, "neutrophil"), ("f1.png", 3, "monocyte")),
        ("f2.png", 1, "eosinophil"),
    ]


def test_dropped_cells_are_told_everywhere(run, smear):
    photograph(run.root / "scan", (smear, 0), (smear, SECOND))
    run()
    record = json.loads((run.folder / "scan" / "slide.json").read_text())
    assert [quality["counted_elsewhere"] for quality in record["quality"]] == [{}, {"f1.png": 2}]
    manifest = json.loads((run.folder / "run.json").read_text())
    assert {slide["slide"]: slide["repeated_cells"] for slide in manifest["slides"]} == {"s2": 0, "s10": 0, "scan": 2}
    notice = "overlapping fields: 2 cells are on two fields and were counted once; slides: scan"
    assert notice in manifest["notices"]
    assert notice in (run.folder / "index.html").read_text()
    page = (run.folder / "scan" / "report.html").read_text()
    assert '<strong title="overlapping_fields">overlapping fields</strong>' in page
    assert "overlaps f1.png: 2 cells of both counted there" in page
    assert "Left out because overlapping fields show the same cells: 2." in page


def test_neither_workers_nor_batches_change_what_is_kept(run, smear):
    photograph(run.root / "scan", *((smear, column) for column in (0, 4, 8, SECOND, 14)))
    run()
    tree = run.tree()
    run(workers=3, batch_size=1, force=True)
    assert run.tree() == tree
    assert len(read_cells(run, "scan")) == len(WHITE_CELLS)


def test_white_cells_that_lie_alike_among_other_red_cells_stay_apart(run, smear):
    photograph(run.root / "apart", (smear, 0), (draw_smear(seed=1), SECOND))
    run()
    row = run.rows()["apart"]
    assert (row["cells"], row["flags"]) == ("6", "low_count")


def test_a_field_photographed_twice_is_counted_once(run, smear):
    photograph(run.root / "scan", (smear, 0), (smear, 0))
    run()
    row = run.rows()["scan"]
    assert (row["cells"], row["flags"]) == ("3", "low_count;duplicate_fields;overlapping_fields")


def test_a_review_keeps_what_was_left_out(run, smear):
    photograph(run.root / "scan", (smear, 0), (smear, SECOND))
    run()
    run(low_count_below=1)  # renders the same cells again
    assert run.rows()["scan"]["flags"] == "limited_count;overlapping_fields"
    assert run.looked == []

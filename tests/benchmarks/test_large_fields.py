"""`python -m benchmarks.large_fields`: cells that are there are compared with those that a run found."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import large_fields
from benchmarks.large_fields import Mosaic, Score, repeat_centers, score_cells, write_pyramid

CELLS = "field,x,y,width,height\n"


def write_results(folder: Path, cells: list[tuple[str, int, int]], record: dict) -> Path:
    rows = "".join(f"{field},{x - 5},{y - 5},10,10\n" for field, x, y in cells)
    (folder / "cells.csv").write_text(CELLS + rows)
    (folder / "slide.json").write_text(json.dumps(record))
    return folder


def test_repeat_centers_moves_them_by_whole_blocks() -> None:
    block = Mosaic(np.zeros((30, 40, 3), np.uint8), np.array([[1.0, 2.0]]), 10.0)
    assert repeat_centers(block, range(1, 3), range(2)).tolist() == [[41, 2], [81, 2], [41, 32], [81, 32]]


def test_score_cells_tells_lost_repeated_and_other_boxes(tmp_path: Path) -> None:
    there = np.array([[20.0, 20.0], [60.0, 20.0], [100.0, 20.0]])
    cells = [("a", 21, 22), ("a", 60, 20), ("a", 58, 20), ("a", 20, 80)]
    assert score_cells(write_results(tmp_path, cells, {}), there, 10.0) == Score(3, 2, 1, 1)


def test_score_cells_asks_only_for_cells_of_zones_that_were_looked_at(tmp_path: Path) -> None:
    there = np.array([[20.0, 20.0], [60.0, 20.0], [20.0, 60.0]])
    record = {"scan": {"width": 100, "zones": 4}, "quality": [{"field": "zone-x50-y0"}, {"field": "zone-x0-y50"}]}
    results = write_results(tmp_path, [("zone-x50-y0", 60, 20), ("zone-x50-y0", 20, 20)], record)
    assert score_cells(results, there, 10.0) == Score(2, 1, 0, 0)  # the box in the zone beside it is of a cell


def test_write_pyramid_puts_blocks_between_glass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openslide = pytest.importorskip("openslide")
    monkeypatch.setattr(large_fields, "_SCAN_SIDE_PX", 2048)
    monkeypatch.setattr(large_fields, "_SMEAR_PX", (512, 1536))
    write_pyramid(
        tmp_path / "scan.svs", Mosaic(np.full((256, 512, 3), (90, 40, 120), np.uint8), np.empty((0, 2)), 10.0)
    )
    with openslide.OpenSlide(tmp_path / "scan.svs") as scan:
        assert scan.dimensions == (2048, 2048)
        assert float(scan.properties["openslide.mpp-x"]) == pytest.approx(0.1875)
        for level in range(scan.level_count):
            row = np.asarray(scan.read_region((0, 1024), level, (int(2048 / scan.level_downsamples[level]), 1)))[0]
            is_smear = row[:, 1] < 150
            assert is_smear.mean() == pytest.approx(0.5, abs=0.05)
            assert not is_smear[0]
            assert not is_smear[-1]

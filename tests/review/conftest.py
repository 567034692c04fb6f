"""Fixtures of the tests of reviews."""

import json

import fakes
import pytest

from wbctool.paths import OutputPaths


@pytest.fixture
def output(run):
    """s2: neutrophil, lymphocyte, and one in review that looks like a monocyte."""
    assert run() == 0
    return OutputPaths(run.out)


@pytest.fixture
def write(output, tmp_path):
    """Writes a review of s2 as its report would save it now. moves: (row, from, to)."""

    def write(*moves, name="review.json", **changes):
        fields = {1: ("f1.png", 1), 2: ("f1.png", 2), 3: ("f2.png", 1)}
        cells = [
            {"row": row, "field": fields[row][0], "cell": fields[row][1], "from": was, "to": to, "comment": ""}
            for row, was, to in moves
        ]
        content = {
            "schema": "wbctool-review/1",
            "slide": "s2",
            "results": fakes.hash_cells(output.slide_file("s2", "cells.csv")),
            "reader": "AB",
            "time": "2026-01-02T03:04:05.678Z",
            "comment": "",
            "cells": cells,
        }
        (tmp_path / name).write_text(json.dumps(content | changes))
        return tmp_path / name

    return write

"""What the tests of adaptation share."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from wbctool.adaptation.candidates import read_candidates
from wbctool.adaptation.labels_file import LabelledCell, Labels, Purpose, format_labels
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages

TIME = datetime(2026, 11, 28, 10, tzinfo=UTC)


@pytest.fixture
def label_all(tmp_path: Path) -> Callable[..., Path]:
    """Write a labels file of all cells of results, which AB calls what the tool calls them."""

    def label_all(out: Path, name: str = "labels.json", **changes: Any) -> Path:
        candidates = read_candidates(OutputPaths.from_path(out), FieldImages({}))
        cells = tuple(
            LabelledCell(
                slide=c.slide,
                field=c.cell.field,
                field_sha256=c.field_sha256,
                cell=c.cell.index,
                box=c.cell.detection.box,
                chosen=Purpose.MEASURE,
                label=CellClass(c.cell.prediction.label),
                time=TIME,
                answer_shown=False,
            )
            for c in candidates.cells
        )
        values = {
            "reader": "AB",
            "created": TIME,
            "tool_version": "test",
            "page": sha256(json.dumps(candidates.cells_sha256).encode()).hexdigest(),
            "cells_asked": len(cells),
            "results": candidates.cells_sha256,
            "cells": cells,
        }
        path = tmp_path / name
        path.write_bytes(format_labels(Labels(**(values | changes))))
        return path

    return label_all

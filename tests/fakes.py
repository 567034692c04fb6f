"""Stages without models, and fields for them: solid squares as cells, whose colors are their classes."""

from __future__ import annotations

import csv
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wbctool.former_names import fingerprint_settings
from wbctool.labels import CellClass
from wbctool.pipeline.bound_stages import BoundStages, ModelsInUse
from wbctool.report.csv_tables import csv_text
from wbctool.settings import RunSettings
from wbctool.stages.preprocess import ClassifierInput
from wbctool.types.cells import Box, Crop, Detection, Field, Outcome, Prediction, Reason
from wbctool.types.results import ModelRef, Provenance

GRID_PX = 32
CELL_PX = 16
COLUMNS = 10
REVIEW = "review"
ODD = "odd"

COLORS: dict[str, tuple[int, int, int]] = {
    "neutrophil": (200, 0, 0),
    "lymphocyte": (0, 200, 0),
    "monocyte": (0, 0, 200),
    "eosinophil": (200, 200, 0),
    "basophil": (200, 0, 200),
    "immature_granulocyte": (0, 200, 200),
    "erythroblast": (90, 0, 0),
    "platelet": (0, 90, 0),
    REVIEW: (0, 0, 90),
    ODD: (0, 90, 90),
}
NAMES = tuple(COLORS)
PALETTE = np.array(list(COLORS.values()), dtype=int)


def draw_field(path: Path, cells: Iterable[str | tuple[int, int, int]]) -> Path:
    """Draw an image with one square per cell, ten in a row; ``cells`` are names of COLORS, or colors."""
    cells = list(cells)
    rows = max(1, -(-len(cells) // COLUMNS))
    rgb = np.full((rows * GRID_PX, COLUMNS * GRID_PX, 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = (i // COLUMNS) * GRID_PX + 8, (i % COLUMNS) * GRID_PX + 8
        rgb[y : y + CELL_PX, x : x + CELL_PX] = COLORS[cell] if isinstance(cell, str) else cell
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return path


def detect(field: Field, *_: object) -> tuple[Detection, ...]:
    height, width = field.rgb.shape[:2]
    return tuple(
        Detection(Box(x, y, CELL_PX, CELL_PX), 0.9)
        for y in range(8, height - CELL_PX, GRID_PX)
        for x in range(8, width - CELL_PX, GRID_PX)
        if field.rgb[y + 8, x + 8].min() < 250
    )


def crop(field: Field, boxes: Sequence[Box]) -> tuple[Crop, ...]:
    return tuple(Crop(np.ascontiguousarray(field.rgb[b.y : b.y + b.height, b.x : b.x + b.width])) for b in boxes)


def preprocess(crops: Sequence[Crop]) -> ClassifierInput:
    rgb = np.stack([np.broadcast_to(c.rgb[8, 8], (128, 128, 3)) for c in crops])
    return ClassifierInput(rgb, (True,) * len(crops))


def classify(rgb: NDArray[np.uint8]) -> tuple[Prediction, ...]:
    return tuple(
        predict(NAMES[int(np.abs(PALETTE - pixel).sum(axis=1).argmin())]) for pixel in rgb[:, 0, 0].astype(int)
    )


def predict(name: str) -> Prediction:
    """Predict a cell of COLORS: confidently, except ``review`` and ``odd``, which look like monocytes."""
    label = CellClass.MONOCYTE if name in {REVIEW, ODD} else CellClass(name)
    confidence = 0.4 if name == REVIEW else 0.93
    rest = (1 - confidence) / (len(CellClass) - 1)
    probabilities = tuple(confidence if c is label else rest for c in CellClass)
    outcome, reason = {
        REVIEW: (Outcome.NEEDS_REVIEW, Reason.LOW_CONFIDENCE),
        ODD: (Outcome.NEEDS_REVIEW, Reason.OUT_OF_DISTRIBUTION),
        "erythroblast": (Outcome.NOT_WBC, Reason.ERYTHROBLAST),
        "platelet": (Outcome.NOT_WBC, Reason.PLATELET),
    }.get(name, (Outcome.COUNTED, Reason.NONE))
    return Prediction(label, confidence, probabilities, -5.0, outcome, reason)


def provenance(classes: Iterable[CellClass] = CellClass, model: str = "ab" * 32) -> Provenance:
    return Provenance(
        tool_version="0.0.test",
        provider="CPUExecutionProvider",
        precision="fp32",
        classes=tuple(classes),
        models=(ModelRef("classifier.onnx", "fake", "1", model),),
        settings=(("super_resolve", "auto"),),
    )


def hash_cells(path: Path) -> str:
    """Return the hash by which a review names the cells of a cells.csv: of the table up to the probabilities."""
    with path.open(encoding="utf-8", newline="") as lines:
        header, *rows = csv.reader(lines)
    n_columns = 1 + max(index for index, name in enumerate(header) if name.startswith("p_"))
    text = csv_text(header[:n_columns], [row[:n_columns] for row in rows])
    return hashlib.sha256(text.encode()).hexdigest()


def fake_stages(settings: RunSettings, model: str = "ab" * 32) -> BoundStages:
    cache_key = {
        "tool": "0.0.test",
        "cards": [model],
        "settings": fingerprint_settings(settings.result_settings()),
    }
    return BoundStages(ModelsInUse(provenance(model=model), cache_key), detect, crop, preprocess, classify)


def make_comparison_clock(fp32_s: float, quantized_s: float) -> Callable[[], float]:
    """Make a clock by which the fp32 model and its copy, timed in turn, take so many seconds each."""
    times = itertools.accumulate(itertools.cycle([0.0, fp32_s, 0.0, quantized_s]))
    return lambda: next(times)

"""Temperatures fitted in other laboratories."""

import numpy as np
import pytest

from experiments.temperature import Laboratory, fit_temperatures, format_table
from wbctool.adaptation.cells import AdaptationCell
from wbctool.inference.model_card import ClassifierCard
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Crop

CLASSES = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE)
CARD = ClassifierCard(
    name="classifier", version="0", file="classifier.onnx", sha256="0" * 64, parameters=0, tool_version="test",
    recipe="by hand", training={}, classes=CLASSES, input_px=128, crop_margin=1.25, temperature=1.0,
    confidence_threshold=0.5,
)  # fmt: skip
CROP = Crop(np.zeros((40, 40, 3), np.uint8))


def _laboratory(name: str, n_right: int, n_wrong: int, logit: float, n_blasts: int = 0) -> Laboratory:
    """Cells that are all called neutrophils with the same logit, some of them lymphocytes and blasts."""
    labels = [CLASSES[0]] * n_right + [CLASSES[1]] * n_wrong + [UnknownKind.BLAST] * n_blasts
    cells = [AdaptationCell(label, f"{name}/{i}", f"{i}.png", CROP) for i, label in enumerate(labels)]
    return Laboratory(name, cells, [np.tile(np.float32([logit, 0.0]), (len(cells), 1))] * 2)


def test_fit_temperatures_makes_the_confidence_the_share_of_right_cells() -> None:
    first, second = fit_temperatures([_laboratory("a", 3, 1, 4.0, n_blasts=2)], [CARD, CARD])
    assert first == second == pytest.approx(4.0 / np.log(3), rel=1e-3)  # softmax(4 / T) = 0.75


def test_fit_temperatures_laboratories_weigh_the_same_however_large() -> None:
    small, large = _laboratory("a", 1, 1, 4.0), _laboratory("b", 200, 0, 4.0)
    (temperature,) = fit_temperatures([small, large], [CARD])
    assert temperature == pytest.approx(4.0 / np.log(3), rel=1e-3)  # half of a's and all of b's: 0.75


def test_format_table_measures_with_what_was_fitted_elsewhere() -> None:
    laboratories = [_laboratory("a", 2, 1, 4.0), _laboratory("b", 7, 1, 6.0, n_blasts=1)]
    lines = format_table(laboratories, [CARD, CARD]).splitlines()[2:]
    rows = [[value.strip() for value in line.split("|")[1:-1]] for line in lines]
    assert rows == [
        ["a", "3", "at home", "1.00, 1.00", "0.315", "0.99", "0.0%", "0.0%", "-"],
        ["a", "3", "on the others", "3.08, 3.08", "0.119", "0.88", "0.0%", "0.0%", "-"],
        ["b", "8", "at home", "1.00, 1.00", "0.123", "0.99", "12.5%", "100.0%", "100.0%"],
        ["b", "8", "on the others", "5.77, 5.77", "0.136", "0.67", "12.5%", "100.0%", "100.0%"],
    ]

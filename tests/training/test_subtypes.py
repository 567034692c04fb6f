"""The layer that tells subtypes, on features whose subtypes are known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from wbctool_training.data.cell_index import CellRef
from wbctool_training.subtypes import SubtypeLayer, fit_subtypes

from wbctool.labels import CellClass, Subtype, UnknownKind, parse_subtype
from wbctool.types.cells import Box

NEUTROPHIL, GRANULOCYTE = CellClass.NEUTROPHIL, CellClass.IMMATURE_GRANULOCYTE


def _cells(
    n: int, prefix: str, label: CellClass | UnknownKind | None = NEUTROPHIL, dataset: str = "pbc"
) -> list[CellRef]:
    paths = [Path(dataset) / "cells" / f"{prefix}_{index}.jpg" for index in range(n)]
    subtype = parse_subtype("cells", f"{prefix}_1")
    return [CellRef(path, Box(0, 0, 9, 9), label, f"{dataset}{path.stem}", dataset, subtype) for path in paths]


def _measure(cells: Sequence[CellRef]) -> np.ndarray:
    """Return three features: noise, 1 for bands, and 1 for promyelocytes; a cell's are the same each time."""
    noise = [np.random.default_rng(int(cell.path.stem.split("_")[1])).normal(0, 0.1) for cell in cells]
    bands = [cell.subtype is Subtype.BAND for cell in cells]
    promyelocytes = [cell.subtype is Subtype.PROMYELOCYTE for cell in cells]
    return np.array([noise, bands, promyelocytes], np.float32).T


def _logits(fitted: SubtypeLayer, features: list[float]) -> list[float]:
    with torch.no_grad():
        logits: list[float] = fitted.layer(torch.tensor([features], dtype=torch.float32))[0].tolist()
    return logits


def test_fit_subtypes_tells_those_of_classes_with_enough_cells() -> None:
    train = [
        *_cells(40, "BNE"),
        *_cells(40, "SNE"),
        *_cells(40, "NEUTROPHIL"),  # no subtype
        *_cells(40, "MMY", GRANULOCYTE),
        *_cells(40, "MY", GRANULOCYTE),
        *_cells(9, "PMY", GRANULOCYTE),  # too few
    ]
    fitted = fit_subtypes(train, [*_cells(5, "BNE"), *_cells(5, "SNE")], _measure)
    assert fitted is not None
    assert fitted.subtypes == (Subtype.BAND, Subtype.SEGMENTED)
    band, segmented = _logits(fitted, [0, 1, 0])
    assert band > segmented + 3
    band, segmented = _logits(fitted, [0, 0, 0])
    assert segmented > band + 3
    assert fitted.threshold == pytest.approx(0.4)  # all are right


def test_fit_subtypes_classes_do_not_compete() -> None:
    """A feature that all promyelocytes have, and no other cell, says nothing about bands."""
    train = [
        *_cells(30, "BNE"),
        *_cells(30, "SNE"),
        *(cell for prefix in ("MMY", "MY", "PMY") for cell in _cells(30, prefix, GRANULOCYTE)),
    ]
    fitted = fit_subtypes(train, train, _measure)
    assert fitted is not None
    assert len(fitted.subtypes) == 5
    without, with_feature = (_logits(fitted, [0, 0, value]) for value in (0.0, 1.0))
    assert with_feature[0] - with_feature[1] == pytest.approx(without[0] - without[1], abs=0.05)
    assert with_feature[4] - with_feature[3] > without[4] - without[3] + 3


def test_fit_subtypes_a_small_laboratory_weighs_as_much_as_a_large_one() -> None:
    """Two laboratories that contradict each other leave it open; a mean over cells would follow the larger one."""
    swapped = [*_cells(10, "BNE", dataset="small"), *_cells(10, "SNE", dataset="small")]

    def measure(cells: Sequence[CellRef]) -> np.ndarray:
        features = _measure(cells)
        is_small = np.array([cell.dataset == "small" for cell in cells])
        features[is_small, 1] = 1 - features[is_small, 1]
        return features

    train = [*_cells(90, "BNE"), *_cells(90, "SNE"), *swapped]
    fitted = fit_subtypes(train, train, measure)
    assert fitted is not None
    band, segmented = _logits(fitted, [0, 1, 0])
    assert band == pytest.approx(segmented, abs=0.3)


def test_fit_subtypes_without_cells_to_fit_or_validate_gives_none() -> None:
    cells = [*_cells(40, "BNE"), *_cells(40, "SNE")]
    assert fit_subtypes(cells, _cells(9, "NEUTROPHIL"), _measure) is None
    assert fit_subtypes(cells[:40], cells, _measure) is None
    assert fit_subtypes([], [], _measure) is None

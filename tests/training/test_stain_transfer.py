"""Cells in the colors of another laboratory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from wbctool_training.data.cell_index import CellRef
from wbctool_training.data.classification_dataset import TrainDataset
from wbctool_training.data.stain_transfer import StainBank, measure_stain, transfer_stain

from wbctool.imaging.reader import read_field
from wbctool.labels import CellClass
from wbctool.types.cells import Box

SLIDES = Path(__file__).parents[1] / "data" / "slides"
DEMO = sorted((SLIDES / "slide-01").iterdir())


@pytest.fixture
def rgb() -> np.ndarray:
    return read_field(DEMO[0]).rgb[100:228, 200:328]


def _cells() -> list[CellRef]:
    labels = (CellClass.NEUTROPHIL, None)
    return [
        CellRef(path, Box(200, 150, 160, 150), labels[k % 2], str(k), ("here", "there")[k % 2])
        for k, path in enumerate(DEMO[:6])
    ]


def test_measure_stain_flat_color_is_its_lab_value() -> None:
    mean, deviation = measure_stain(np.full((4, 4, 3), 119, np.uint8))
    assert mean == pytest.approx([50.0, 0.0, 0.0], abs=0.3)  # sRGB 119 is CIELAB's middle gray
    assert deviation == pytest.approx([0, 0, 0], abs=1e-3)


def test_transfer_stain_full_amount_gives_target_stain(rgb: np.ndarray) -> None:
    target = measure_stain(rgb) + np.array([[-6, 4, 3], [1.5, -2, 2]], np.float32)
    own, half, whole = (measure_stain(transfer_stain(rgb, target, amount)) for amount in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(own, measure_stain(rgb), atol=0.1)
    np.testing.assert_allclose(whole, target, atol=1.0)  # 8 bits and the gamut's edge
    np.testing.assert_allclose(half, (measure_stain(rgb) + target) / 2, atol=1.0)


def test_transfer_stain_flat_crop_stays_flat() -> None:
    flat = np.full((8, 8, 3), 180, np.uint8)
    flat[0, 0] += 1
    target = np.array([[60, 0, 0], [25, 15, 20]], np.float32)
    assert transfer_stain(flat, target, 1.0).std(axis=(0, 1)).max() < 5


def test_stain_bank_samples_every_dataset_with_and_without_labels() -> None:
    stains = StainBank.from_cells(_cells(), 1.25, seed=0)
    assert [table.shape for table in stains.tables] == [(3, 2, 3), (3, 2, 3)]
    drawn = [stains.sample(rng) for rng in [np.random.default_rng(0)] for _ in range(200)]
    from_first = sum(any(np.array_equal(one, known) for known in stains.tables[0]) for one in drawn)
    assert 70 < from_first < 130


def test_train_dataset_stain_transfer_prob_is_kept() -> None:
    cells = [cell for cell in _cells() if cell.label]
    black = StainBank((np.array([[[20, 0, 0], [1, 0, 0]]], np.float32),))

    def crops(share: float) -> TrainDataset:
        return TrainDataset(cells, (CellClass.NEUTROPHIL,), 1.25, "strong", 3, black, share)

    dark = [float(crops(0.5)[k][0].float().mean()) < 110 for k in range(40)]
    assert 10 <= sum(dark) <= 30
    assert torch.equal(crops(0.5)[4][0], crops(0.5)[4][0])
    assert not any(float(crops(0.0)[k][0].float().mean()) < 110 for k in range(40))


def test_train_dataset_stain_jitter_prob_is_kept() -> None:
    cells = [cell for cell in _cells() if cell.label]

    def crops(share: float) -> TrainDataset:
        return TrainDataset(cells, (CellClass.NEUTROPHIL,), 1.25, "strong", 3, stain_jitter_prob=share)

    plain, half = crops(0.0), crops(0.5)
    assert 10 <= sum(torch.equal(plain[k][0], half[k][0]) for k in range(40)) <= 30
    assert torch.equal(half[4][0], crops(0.5)[4][0])

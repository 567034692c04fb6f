"""The paper's classifier on copies split at random and by original."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier

from experiments.leakage import CellMaps, Setup, cross_validate, fit, format_table, iter_folds, make_trained_part

_ORIGINALS, _COPIES = 40, 5
_HEAD = 37  # the layers of VGG19's convolutional part: all of them are frozen


def _make_maps(rng: np.random.Generator) -> CellMaps:
    """Copies that resemble their original alone: nothing tells the class of another original."""
    originals = np.repeat(np.arange(_ORIGINALS), _COPIES)
    centers = rng.normal(0, 3, (_ORIGINALS, 512))
    maps = centers[originals] + rng.normal(0, 0.3, (len(originals), 512))
    y_true = rng.permutation(_ORIGINALS)[originals] % 2
    groups: NDArray[np.str_] = originals.astype(str)
    return CellMaps(torch.from_numpy(maps)[:, :, None, None].half(), y_true, groups, np.arange(len(originals)))


def test_iter_folds_by_original_keeps_the_copies_together() -> None:
    cells = _make_maps(np.random.default_rng(0))
    for train, validation, test in iter_folds(cells, "by original", 10, seed=0):
        parts = [set(cells.groups[part]) for part in (train, validation, test)]
        assert not parts[0] & (parts[1] | parts[2])
        assert not parts[1] & parts[2]
        assert len(train) + len(validation) + len(test) == len(cells.groups)


def test_iter_folds_random_tests_each_copy_once() -> None:
    cells = _make_maps(np.random.default_rng(0))
    tested = np.concatenate([test for *_, test in iter_folds(cells, "random", 10, seed=0)])
    assert sorted(tested) == list(range(len(cells.groups)))


def test_cross_validate_random_split_leaks() -> None:
    network = NormalizedClassifier(CellClassifier(2), white_balance=False)
    cells = _make_maps(np.random.default_rng(1))
    accuracy = {}
    for split in ("random", "by original"):
        y_true, y_pred = cross_validate(network, _HEAD, cells, None, split, 2, seed=0)
        accuracy[split] = (y_true == y_pred).mean()
    assert accuracy["random"] > 0.9
    assert accuracy["by original"] < 0.75


def test_cross_validate_takes_only_images_made_from_training_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NormalizedClassifier(CellClassifier(2), white_balance=False)
    cells = _make_maps(np.random.default_rng(2))
    seen: list[int] = []
    monkeypatch.setattr("experiments.leakage.fit", lambda part, train, validation: seen.append(len(train[0])))
    cross_validate(network, _HEAD, cells, cells, "by original", 1, seed=0)
    ((train, _, _),) = iter_folds(cells, "by original", 1, seed=0)
    assert seen == [2 * len(train)]


def test_fit_learns_what_can_be_learned() -> None:
    torch.manual_seed(0)
    part = make_trained_part(NormalizedClassifier(CellClassifier(2), white_balance=False), _HEAD)
    y_true = torch.arange(80) % 2
    maps = (torch.randn(80, 512, 1, 1) + 2 * y_true[:, None, None, None]).half()
    fit(part, (maps, y_true), (maps[:20], y_true[:20]))
    with torch.inference_mode():
        assert (part(maps.float()).argmax(dim=1) == y_true).float().mean() > 0.95


def test_make_trained_part_of_the_last_block_has_its_convolutions() -> None:
    part = make_trained_part(NormalizedClassifier(CellClassifier(4), white_balance=False), 28)
    assert sum(isinstance(layer, nn.Conv2d) for layer in part.modules()) == 4


def test_format_table_known_answer() -> None:
    table = format_table(Setup("random", "head", 0), np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ["a", "b"])
    assert "75.00% of 4 copies correct" in table
    assert "| a | 1.00 | 0.50 | 0.67 | 2 |" in table
    assert "| b | 0.67 | 1.00 | 0.80 | 2 |" in table

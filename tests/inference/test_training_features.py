from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_tiny_models

from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.inference.model_card import ClassifierCard, CompactCard, default_models_dir, load_fp32_card
from wbctool.inference.training_features import (
    TrainingFeatures,
    encode_training_features,
    read_training_features,
    training_features_path,
)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_tiny_models(tmp_path)


def test_read_training_features_returns_what_was_written(models: Path) -> None:
    card = load_fp32_card(models, ClassifierCard)
    cells = TrainingFeatures(np.array([[1, 2, 0.5], [3, 4, -0.25]], np.float32), np.array([7, 0]))
    training_features_path(models, ClassifierCard).write_bytes(encode_training_features(cells, card.sha256))
    read = read_training_features(models, card)
    assert np.array_equal(read.features, cells.features)
    assert read.y_true.tolist() == [7, 0]


def test_read_training_features_of_another_model_are_refused(models: Path) -> None:
    card = load_fp32_card(models, ClassifierCard).model_copy(update={"sha256": "ab" * 32})
    with pytest.raises(ModelMismatch, match="belongs to a model with SHA-256"):
        read_training_features(models, card)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_read_training_features_of_a_damaged_file_are_refused(models: Path, content: bytes) -> None:
    training_features_path(models, ClassifierCard).write_bytes(content)
    with pytest.raises(ModelMismatch, match="is no file of features"):
        read_training_features(models, load_fp32_card(models, ClassifierCard))


def test_read_training_features_missing_file_is_named(models: Path) -> None:
    training_features_path(models, CompactCard).unlink()
    with pytest.raises(ModelNotFound, match=r"compact\.features\.npz"):
        read_training_features(models, load_fp32_card(models, CompactCard))


@pytest.mark.parametrize("kind", [ClassifierCard, CompactCard])
def test_shipped_features_belong_to_the_shipped_models(kind: type[ClassifierCard | CompactCard]) -> None:
    folder = default_models_dir()
    cells = read_training_features(folder, load_fp32_card(folder, kind))
    assert len(cells.features) >= 1000
    assert len(np.unique(cells.y_true)) >= 8

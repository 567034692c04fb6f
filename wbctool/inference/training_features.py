"""Features of cells that a classifier was trained on: `<kind>.features.npz` beside the model.

A classifier that is fitted to a laboratory's cells sees them again, so that it does not forget the classes that the
laboratory has few cells of.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.inference.model_card import CellClassifierCard, kind_name


@dataclass(frozen=True, slots=True)
class TrainingFeatures:
    """Features of training cells.

    Attributes:
        features: (N, D) float32, the input of the classifier's last layer.
        y_true: (N,) int64, the index of each cell's output.
    """

    features: NDArray[np.float32]
    y_true: NDArray[np.int64]


def training_features_path(folder: Path, kind: type[CellClassifierCard]) -> Path:
    """Return the path of the features that belong to a classifier."""
    return folder / f"{kind_name(kind)}.features.npz"


def encode_training_features(cells: TrainingFeatures, model_sha256: str) -> bytes:
    """Return the content of a features file: half precision, with the hash of the model that computed them."""
    buffer = io.BytesIO()
    features, y_true = cells.features.astype(np.float16), cells.y_true.astype(np.uint8)
    np.savez_compressed(buffer, features=features, y_true=y_true, model_sha256=np.array(model_sha256))
    return buffer.getvalue()


def read_training_features(folder: Path, card: CellClassifierCard) -> TrainingFeatures:
    """Read the features that belong to a classifier.

    Args:
        folder: The folder of models.
        card: The classifier's card.

    Raises:
        ModelNotFound: The file is missing or unreadable.
        ModelMismatch: It is no features file, or belongs to another model.
    """
    path = training_features_path(folder, type(card))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            features, y_true = arrays["features"].astype(np.float32), arrays["y_true"].astype(np.int64)
            model_sha256 = str(arrays["model_sha256"])
    except OSError as error:
        raise ModelNotFound(f"the features of training cells, {path}, are missing or unreadable") from error
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelMismatch(f"{path} is no file of features: {error}") from error
    if model_sha256 != card.sha256:
        raise ModelMismatch(f"{path} belongs to a model with SHA-256 {model_sha256}, not to {card.file}")
    n_outputs = len(card.classes) + len(card.unknown_kinds)
    if features.ndim != 2 or y_true.shape != features.shape[:1] or y_true.max(initial=0) >= n_outputs:
        raise ModelMismatch(f"{path} does not fit {card.file}")
    return TrainingFeatures(features, y_true)

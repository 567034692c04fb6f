"""Labelled cells through detector, cropper, super-resolution and classifier, and the figures of merit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.labelled import LabelledImage
from wbctool.datasets.single_cell import detect_labelled_cell
from wbctool.enums import SuperResolve
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.evaluation.metrics import accuracy_by_group, calibration_error, cluster_bootstrap_interval
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import Models
from wbctool.labels import CellClass
from wbctool.stages.classify import classify_cells
from wbctool.stages.preprocess import preprocess_crops
from wbctool.types.cells import Crop, Field, Outcome, Prediction
from wbctool.types.progress import Progress

_BATCH = 32


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """One data set's cells through detector, cropper, super-resolution and classifier.

    accuracy: per image, review cells too. ci95: by source. coverage: the share that a run would not send to review.
    accuracy_restricted_classes: with the choice left to the classes that the data set has.
    no_detection: images in which the detector proposed nothing at all.
    """

    dataset: str
    images: int
    n_groups: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    accuracy_per_group: float
    accuracy_restricted_classes: float
    calibration_error: float
    coverage: float
    selective_accuracy: float
    selective_accuracy_ci95: tuple[float, float]
    per_class: dict[str, dict[str, float]]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    no_detection: int
    confidences: tuple[float, ...]
    correct: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LabelledCrop:
    """The cell of a labelled image. is_detected: False where the detector proposed nothing and the image's middle was cut."""

    image: LabelledImage
    crop: Crop
    is_detected: bool


@dataclass(frozen=True, slots=True)
class Misclassification:
    """A cell that was called something else. rgb: its native crop, (n, n, 3) uint8, RGB."""

    image: str
    group: str
    label: str
    predicted: str
    confidence: float
    rgb: NDArray[np.uint8]


def top_misclassifications(
    cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], limit: int
) -> tuple[Misclassification, ...]:
    """The wrong cells that the classifier was surest of, one of each source, at most ``limit``."""
    wrong = [
        Misclassification(c.image.path.name, c.image.group, c.image.label, p.label, p.confidence, c.crop.rgb)
        for c, p in zip(cells, predictions, strict=True)
        if c.image.label is not p.label
    ]
    wrong.sort(key=lambda mistake: -mistake.confidence)
    most_confident = {mistake.group: mistake for mistake in reversed(wrong)}
    return tuple(sorted(most_confident.values(), key=lambda mistake: -mistake.confidence)[:limit])


def crop_labelled_cells(
    images: Sequence[LabelledImage], models: Models, progress: Progress, description: str
) -> tuple[LabelledCrop, ...]:
    """One crop an image, in order; raises LabelledDataInvalid where an image cannot be read."""
    cells = []
    for image in progress(images, len(images), f"{description}: finding cells"):
        field = read_labelled_field(image.path)
        detection = detect_labelled_cell(field, models.detector)
        (crop,) = crop_cells(field, [detection.box], models.classifier.card.crop_margin)
        cells.append(LabelledCrop(image, crop, detection.score > 0))
    return tuple(cells)


def predict(crops: Sequence[Crop], models: Models, mode: SuperResolve) -> tuple[Prediction, ...]:
    """Prepared and classified as a run does it."""
    return tuple(
        prediction
        for start in range(0, len(crops), _BATCH)
        for prediction in classify_cells(
            preprocess_crops(crops[start : start + _BATCH], models.generator, mode).rgb, models.classifier
        )
    )


def summarize_classifier(
    dataset: str, cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], classes: Sequence[CellClass]
) -> ClassifierReport:
    """cells, predictions: of one data set, in the same order. classes: of the model's card."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    images = [cell.image for cell in cells]
    y_true = [str(i.label) for i in images]
    y_pred = [str(p.label) for p in predictions]
    names = [str(c) for c in classes]
    correct = np.array([w == g for w, g in zip(y_true, y_pred, strict=True)])
    confidence = np.array([p.confidence for p in predictions])
    is_covered = np.array([p.outcome is not Outcome.NEEDS_REVIEW for p in predictions])
    groups = [i.group for i in images]
    per_group, n_groups = accuracy_by_group(correct, groups)
    low, high = cluster_bootstrap_interval(correct, groups)
    covered_groups = [s for s, kept in zip(groups, is_covered.tolist(), strict=True) if kept]
    columns = precision_recall_fscore_support(y_true, y_pred, labels=names, zero_division=0.0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *columns, strict=True)
    }
    return ClassifierReport(
        dataset=dataset,
        images=len(images),
        n_groups=n_groups,
        accuracy=float(correct.mean()),
        ci95_low=low,
        ci95_high=high,
        accuracy_per_group=per_group,
        accuracy_restricted_classes=_accuracy_restricted_classes(y_true, names, predictions),
        calibration_error=calibration_error(confidence, correct),
        coverage=float(is_covered.mean()),
        selective_accuracy=float(correct[is_covered].mean()) if is_covered.any() else 0.0,
        selective_accuracy_ci95=cluster_bootstrap_interval(correct[is_covered], covered_groups)
        if is_covered.any()
        else (0.0, 1.0),
        per_class=per_class,
        classes=tuple(names),
        confusion=confusion_matrix(y_true, y_pred, labels=names).tolist(),
        no_detection=sum(not cell.is_detected for cell in cells),
        confidences=tuple(round(c, 4) for c in confidence.tolist()),
        correct=tuple(correct.tolist()),
    )


def _accuracy_restricted_classes(y_true: list[str], names: list[str], predictions: Sequence[Prediction]) -> float:
    probabilities = np.array([p.probabilities for p in predictions])
    probabilities[:, [name not in y_true for name in names]] = -1.0
    return float(
        np.mean([names[best] == label for best, label in zip(probabilities.argmax(axis=1), y_true, strict=True)])
    )


def read_labelled_field(path: Path) -> Field:
    """As a run reads it; raises LabelledDataInvalid, naming it."""
    try:
        return read_field(path)
    except FieldUnreadable as error:
        raise LabelledDataInvalid(f"{path}: {error}") from error

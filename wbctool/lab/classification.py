"""Labelled cells through detector, cropper, super-resolution and classifier, and the figures of merit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.choices import SuperResolve
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.lab.cells import labelled_cell
from wbctool.lab.labelled import LabelledImage
from wbctool.lab.metrics import accuracy_by_source, calibration_error, cluster_interval
from wbctool.lab.progress import Progress
from wbctool.labels import CellClass
from wbctool.models import Models
from wbctool.records import Crop, Field, Outcome, Prediction
from wbctool.stages.classify import classify_cells
from wbctool.stages.crop import crop_cells
from wbctool.stages.images import read_field
from wbctool.stages.upscale import prepare_crops

_BATCH = 32


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """One data set's cells through detector, cropper, super-resolution and classifier.

    accuracy: per image, review cells too. ci95: by source. covered: the share that a run would not send to review.
    accuracy_among_present: with the choice left to the classes that the data set has.
    not_found: images in which the detector proposed nothing at all.
    """

    origin: str
    images: int
    sources: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    accuracy_per_source: float
    accuracy_among_present: float
    calibration_error: float
    covered: float
    accuracy_covered: float
    accuracy_covered_ci95: tuple[float, float]
    per_class: dict[str, dict[str, float]]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    not_found: int
    confidences: tuple[float, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class LabelledCrop:
    """The cell of a labelled image. found: False where the detector proposed nothing and the image's middle was cut."""

    image: LabelledImage
    crop: Crop
    found: bool


@dataclass(frozen=True, slots=True)
class Mistake:
    """A cell that was called something else. rgb: its native crop, (n, n, 3) uint8, RGB."""

    image: str
    source: str
    label: str
    said: str
    confidence: float
    rgb: NDArray[np.uint8]


def worst_mistakes(cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], limit: int) -> tuple[Mistake, ...]:
    """The wrong cells that the classifier was surest of, one of each source, at most ``limit``."""
    wrong = [
        Mistake(c.image.path.name, c.image.source, c.image.label, p.label, p.confidence, c.crop.rgb)
        for c, p in zip(cells, predictions, strict=True)
        if c.image.label is not p.label
    ]
    wrong.sort(key=lambda mistake: -mistake.confidence)
    surest = {mistake.source: mistake for mistake in reversed(wrong)}
    return tuple(sorted(surest.values(), key=lambda mistake: -mistake.confidence)[:limit])


def find_crops(
    images: Sequence[LabelledImage], models: Models, progress: Progress, what: str
) -> tuple[LabelledCrop, ...]:
    """One crop an image, in order; raises LabelledDataInvalid where an image cannot be read."""
    cells = []
    for image in progress(images, len(images), f"{what}: finding cells"):
        field = read_labelled(image.path)
        found = labelled_cell(field, models.detector)
        (crop,) = crop_cells(field, [found.box], models.classifier.card.crop_margin)
        cells.append(LabelledCrop(image, crop, found.score > 0))
    return tuple(cells)


def predict(crops: Sequence[Crop], models: Models, mode: SuperResolve) -> tuple[Prediction, ...]:
    """Prepared and classified as a run does it."""
    return tuple(
        prediction
        for start in range(0, len(crops), _BATCH)
        for prediction in classify_cells(
            prepare_crops(crops[start : start + _BATCH], models.generator, mode).rgb, models.classifier
        )
    )


def report_classifier(
    origin: str, cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], classes: Sequence[CellClass]
) -> ClassifierReport:
    """cells, predictions: of one data set, in the same order. classes: of the model's card."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    images = [cell.image for cell in cells]
    wanted = [str(i.label) for i in images]
    got = [str(p.label) for p in predictions]
    names = [str(c) for c in classes]
    right = np.array([w == g for w, g in zip(wanted, got, strict=True)])
    confidence = np.array([p.confidence for p in predictions])
    covered = np.array([p.outcome is not Outcome.REVIEW for p in predictions])
    sources = [i.source for i in images]
    per_source, number = accuracy_by_source(right, sources)
    low, high = cluster_interval(right, sources)
    sources_covered = [s for s, kept in zip(sources, covered.tolist(), strict=True) if kept]
    columns = precision_recall_fscore_support(wanted, got, labels=names, zero_division=0.0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *columns, strict=True)
    }
    return ClassifierReport(
        origin=origin,
        images=len(images),
        sources=number,
        accuracy=float(right.mean()),
        ci95_low=low,
        ci95_high=high,
        accuracy_per_source=per_source,
        accuracy_among_present=_accuracy_among_present(wanted, names, predictions),
        calibration_error=calibration_error(confidence, right),
        covered=float(covered.mean()),
        accuracy_covered=float(right[covered].mean()) if covered.any() else 0.0,
        accuracy_covered_ci95=cluster_interval(right[covered], sources_covered) if covered.any() else (0.0, 1.0),
        per_class=per_class,
        classes=tuple(names),
        confusion=confusion_matrix(wanted, got, labels=names).tolist(),
        not_found=sum(not cell.found for cell in cells),
        confidences=tuple(round(c, 4) for c in confidence.tolist()),
        right=tuple(right.tolist()),
    )


def _accuracy_among_present(wanted: list[str], names: list[str], predictions: Sequence[Prediction]) -> float:
    probabilities = np.array([p.probabilities for p in predictions])
    probabilities[:, [name not in wanted for name in names]] = -1.0
    return float(
        np.mean([names[best] == label for best, label in zip(probabilities.argmax(axis=1), wanted, strict=True)])
    )


def read_labelled(path: Path) -> Field:
    """As a run reads it; raises LabelledDataInvalid, naming it."""
    try:
        return read_field(path)
    except FieldUnreadable as error:
        raise LabelledDataInvalid(f"{path}: {error}") from error

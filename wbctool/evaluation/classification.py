"""Classification of labeled cells by the stages of a run, and its measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledImage
from wbctool.datasets.single_cell import find_labelled_cell
from wbctool.enums import SuperResolve
from wbctool.evaluation.calibration import calibration_error
from wbctool.evaluation.metrics import accuracy_by_group, cluster_bootstrap_interval
from wbctool.imaging.crop import crop_cells, hash_crop
from wbctool.inference.loading import Models
from wbctool.inference.model_card import CellClassifierCard
from wbctool.labels import CellClass
from wbctool.stages.classify import classify_cells
from wbctool.stages.preprocess import preprocess_crops
from wbctool.types.cells import Crop, Outcome, Prediction
from wbctool.types.progress import Progress

_BATCH = 32


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """How the cells of one data set are classified.

    All accuracies and fractions are in [0, 1]. All intervals are 95 % cluster bootstrap intervals over groups.

    Attributes:
        dataset: Name of the data set.
        images: Number of images, one cell each.
        n_groups: Number of groups that the images come from.
        accuracy: Accuracy per image; cells in review count too.
        ci95_low: Lower bound of the accuracy.
        ci95_high: Upper bound of the accuracy.
        accuracy_per_group: Accuracy of a majority vote in each group.
        accuracy_restricted_classes: Accuracy if the classifier may choose only classes that the data set has.
        calibration_error: Expected calibration error.
        coverage: Fraction of cells that a run would not send to review.
        selective_accuracy: Accuracy of those cells; None if there are none.
        selective_accuracy_ci95: Bounds of the selective accuracy; None if there are no such cells.
        per_class: Precision, recall, F1 and support of each class.
        classes: The classes of the model, in order.
        confusion: Counts; one row for each true class, one column for each predicted class, in order of ``classes``.
        confidences: Confidence of each cell, in order.
        correct: Whether each cell is classified correctly, in order.
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
    selective_accuracy: float | None
    selective_accuracy_ci95: tuple[float, float] | None
    per_class: dict[str, dict[str, float]]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    confidences: tuple[float, ...]
    correct: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class SingleCell:
    """The cell of an image of one cell.

    Attributes:
        crop: The cell at native resolution; the middle of the image if the detector proposed nothing.
        is_found: Whether a run would detect the cell; it asks for more than a weak proposal.
    """

    crop: Crop
    is_found: bool


@dataclass(frozen=True, slots=True)
class LabelledCrop(SingleCell):
    """The cell of a labeled image.

    Attributes:
        image: The image and its label.
    """

    image: LabelledImage


@dataclass(frozen=True, slots=True)
class Misclassification:
    """A cell that the classifier gave the wrong class.

    Attributes:
        image: File name of the image.
        group: Group of the image.
        label: The true class.
        predicted: The predicted class.
        confidence: Probability of the predicted class, in [0, 1].
        rgb: The native crop, (n, n, 3) uint8, RGB.
    """

    image: str
    group: str
    label: str
    predicted: str
    confidence: float
    rgb: NDArray[np.uint8]


def top_misclassifications(
    cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], limit: int
) -> tuple[Misclassification, ...]:
    """Return the wrong cells with the highest confidence, one of each group.

    Args:
        cells: Labeled cells.
        predictions: Predictions of the same cells, in the same order.
        limit: Maximum number of cells to return.
    """
    wrong = [
        Misclassification(c.image.path.name, c.image.group, c.image.label, p.label, p.confidence, c.crop.rgb)
        for c, p in zip(cells, predictions, strict=True)
        if c.image.label is not p.label
    ]
    wrong.sort(key=lambda wrong_cell: -wrong_cell.confidence)
    most_confident = {wrong_cell.group: wrong_cell for wrong_cell in reversed(wrong)}
    return tuple(sorted(most_confident.values(), key=lambda wrong_cell: -wrong_cell.confidence)[:limit])


def crop_labelled_cells(
    images: Sequence[LabelledImage], models: Models, progress: Progress, description: str
) -> tuple[LabelledCrop, ...]:
    """Cut the labeled cell out of each image; cells that adapted models have learned from are left out.

    Args:
        images: The images.
        models: Their detector finds the cell, and their classifier's card has the margin of the crop.
        progress: Wraps the images.
        description: Name of what is worked on, for the progress.

    Returns:
        The crops, in the images' order.

    Raises:
        LabelledDataInvalid: An image cannot be read.
    """
    cells = []
    for image in progress(images, len(images), f"{description}: finding cells"):
        cell = crop_single_cell(image.path, models)
        if not is_learned(cell.crop, models.classifier.card):
            cells.append(LabelledCrop(cell.crop, cell.is_found, image))
    return tuple(cells)


def is_learned(crop: Crop, card: CellClassifierCard) -> bool:
    """Return whether an adapted classifier has learned from a cell."""
    return card.adaptation is not None and hash_crop(crop) in card.adaptation.cell_sha256


def crop_single_cell(path: Path, models: Models) -> SingleCell:
    """Cut the cell out of an image of one cell.

    Args:
        path: The image.
        models: Their detector finds the cell, and their classifier's card has the margin of the crop.

    Raises:
        LabelledDataInvalid: The image cannot be read.
    """
    field = read_labelled_field(path)
    detection, is_found = find_labelled_cell(field, models.detector)
    (crop,) = crop_cells(field, [detection.box], models.classifier.card.crop_margin)
    return SingleCell(crop, is_found)


def predict(crops: Sequence[Crop], models: Models, mode: SuperResolve) -> tuple[Prediction, ...]:
    """Prepare and classify crops as a run does it.

    Args:
        crops: Crops at native resolution.
        models: The generator and the classifier.
        mode: When crops are super-resolved.

    Returns:
        One prediction a crop, in order.
    """
    return tuple(
        prediction
        for start in range(0, len(crops), _BATCH)
        for prediction in classify_cells(
            preprocess_crops(crops[start : start + _BATCH], models.generator, mode).rgb,
            models.classifier,
            models.second,
        )
    )


def summarize_classifier(
    dataset: str, cells: Sequence[LabelledCrop], predictions: Sequence[Prediction], classes: Sequence[CellClass]
) -> ClassifierReport:
    """Compare the predictions of one data set's cells with their labels.

    Args:
        dataset: Name of the data set.
        cells: The cells, at least one.
        predictions: Predictions of the same cells, in the same order.
        classes: The classes of the model's card, in order.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    images = [cell.image for cell in cells]
    y_true = [str(i.label) for i in images]
    y_pred = [str(p.label) for p in predictions]
    names = [str(c) for c in classes]
    correct = np.array([true == predicted for true, predicted in zip(y_true, y_pred, strict=True)])
    confidence = np.array([p.confidence for p in predictions])
    is_covered = np.array([p.outcome is not Outcome.NEEDS_REVIEW for p in predictions])
    groups = [i.group for i in images]
    per_group, n_groups = accuracy_by_group(correct, groups)
    low, high = cluster_bootstrap_interval(correct, groups)
    covered_groups = [group for group, covered in zip(groups, is_covered.tolist(), strict=True) if covered]
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
        selective_accuracy=float(correct[is_covered].mean()) if is_covered.any() else None,
        selective_accuracy_ci95=cluster_bootstrap_interval(correct[is_covered], covered_groups)
        if is_covered.any()
        else None,
        per_class=per_class,
        classes=tuple(names),
        confusion=confusion_matrix(y_true, y_pred, labels=names).tolist(),
        confidences=tuple(round(c, 4) for c in confidence.tolist()),
        correct=tuple(correct.tolist()),
    )


def _accuracy_restricted_classes(y_true: list[str], names: list[str], predictions: Sequence[Prediction]) -> float:
    """Return the accuracy if only the classes that the data set has may be predicted."""
    probabilities = np.array([p.probabilities for p in predictions])
    probabilities[:, [name not in y_true for name in names]] = -1.0
    return float(
        np.mean([names[best] == label for best, label in zip(probabilities.argmax(axis=1), y_true, strict=True)])
    )

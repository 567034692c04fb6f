"""Verification of the models with a laboratory's own labeled cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.class_folders import describe_left_out, read_single_cell_images
from wbctool.datasets.labelled import GroupSplit, LabelledImage, Split
from wbctool.enums import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.classification import crop_labelled_cells, predict
from wbctool.evaluation.proportion import Proportion, estimate_proportion
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.inference.loading import Models
from wbctool.inference.training_info import TrainingInfo
from wbctool.labels import CellClass
from wbctool.optional import require_extra
from wbctool.stages.familiarity import judge_familiarity
from wbctool.text import pluralize, replace_underscores
from wbctool.types.cells import Outcome, Prediction, Reason
from wbctool.types.progress import Progress, no_progress
from wbctool.types.slides import Familiarity
from wbctool.verification.agreement import Kappa, cohen_kappa
from wbctool.verification.criteria import (
    MIN_CELLS,
    MIN_CELLS_PER_CLASS,
    MIN_GROUPS,
    Criterion,
    VerificationResult,
    conclude,
    criterion_agreement,
    criterion_class_recall,
    criterion_counted_accuracy,
    criterion_ood,
    criterion_review,
)
from wbctool.verification.temperature_refit import TemperatureRefit, refit_temperature

_NO_GROUPS = (
    "every cell counts as a group of its own; if several are of one slide, say so in groups.csv: without it the "
    "intervals are too narrow, and the 20 groups may be one slide"
)


@dataclass(frozen=True, slots=True)
class CellVerification:
    """A verification with labeled cells.

    Attributes:
        verdict: The conclusion and its criteria.
        cells: Number of cells.
        n_groups: Number of groups that the cells come from.
        missed: Number of cells that a run would not find; they count in the measures as if it did.
        agreement: Cells that the models and the reader gave the same class.
        kappa: Agreement beyond chance; None if only one class occurs.
        silent_errors: Wrong cells that a run would find and no reader would be asked about.
        auto_classified: Cells that a run would not leave to a reader.
        accuracy_auto: Correct cells among the automatically classified; None if there are none.
        recall_by_class: The cells that the models gave the class, for each class with cells.
        classes: The classes of the model, in order.
        confusion: Counts; one row for each true class, one column for each predicted class, in order of ``classes``.
        calibration: A temperature fitted to the laboratory; None if there are too few cells.
        notes: What was left out, and which classes are not judged.
    """

    verdict: VerificationResult
    cells: int
    n_groups: int
    missed: int
    agreement: Proportion
    kappa: Kappa | None
    silent_errors: Proportion
    auto_classified: Proportion
    accuracy_auto: Proportion | None
    recall_by_class: dict[str, Proportion]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    calibration: TemperatureRefit | None
    notes: tuple[str, ...]


def verify_cells(data: Path, models: Models, mode: SuperResolve, progress: Progress = no_progress) -> CellVerification:
    """Verify the models with class folders of single-cell images, which go through the stages of a run.

    All cells together are judged as one slide, which is familiar or not.

    Args:
        data: The folder that holds the class folders.
        models: The models to verify.
        mode: When cells are super-resolved.
        progress: Wraps the items of slow loops.

    Raises:
        LabelledDataInvalid: There is no cell to verify with, or an image cannot be read.
        MissingDependency: The extra ``evaluate`` is not installed.
    """
    with require_extra("evaluate", "`wbctool verify`"):
        import sklearn.metrics  # noqa: F401
    labelled, unknown_images = read_single_cell_images(data)
    images, notes = _exclude_training_data(labelled, len(unknown_images), models)
    notes += describe_left_out(data)
    cells = crop_labelled_cells(images, models, progress, data.resolve().name)
    if n_learned := len(images) - len(cells):
        notes.append(f"{pluralize(n_learned, 'cell')} left out: the models were adapted with them")
    if not cells:
        reason = "no folder is named after a class, and there is no differentials.csv"
        if labelled or unknown_images:
            reason = "; ".join(notes)
        raise LabelledDataInvalid(f"{data}: no labeled cells to verify with: {reason}")
    predictions, familiarity = judge_familiarity(
        predict([cell.crop for cell in cells], models, mode),
        models.cards.familiarity_rule,
        is_found=[cell.is_found for cell in cells],
    )
    if familiarity is not None and not familiarity.is_familiar:
        notes.append(_describe_unfamiliar(familiarity))
    return compare_cells(
        [cell.image for cell in cells],
        predictions,
        models.classifier.card.classes,
        [cell.is_found for cell in cells],
        notes,
    )


def compare_cells(
    images: Sequence[LabelledImage],
    predictions: Sequence[Prediction],
    classes: Sequence[CellClass],
    is_found: Sequence[bool],
    notes: Sequence[str] = (),
) -> CellVerification:
    """Compare predictions with a reader's labels and draw the conclusion.

    Args:
        images: The labeled cells, at least one.
        predictions: Predictions of the same cells, in the same order.
        classes: The classes of the model, in order.
        is_found: Whether a run would find each cell.
        notes: Notes on what was left out before.
    """
    from sklearn.metrics import confusion_matrix

    groups = [image.group for image in images]
    n_groups = len(set(groups))
    labels = [label.value for label in classes]
    y_true, y_pred = [image.label.value for image in images], [p.label.value for p in predictions]
    correct = np.array([true == predicted for true, predicted in zip(y_true, y_pred, strict=True)])
    is_silent = [
        found and is_silent_error(p, image.label) for found, p, image in zip(is_found, predictions, images, strict=True)
    ]
    is_auto = np.array([p.outcome is not Outcome.NEEDS_REVIEW for p in predictions])
    is_ood = np.array([p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions])
    recalls = {label: _proportion_within(correct, groups, np.array(y_true) == label) for label in labels}
    recall_by_class = {label: recall for label, recall in recalls.items() if recall is not None}
    agreement, auto_classified = estimate_proportion(correct, groups), estimate_proportion(is_auto, groups)
    accuracy_auto = _proportion_within(correct, groups, is_auto)
    criteria = [
        criterion_agreement(agreement),
        *([criterion_counted_accuracy(accuracy_auto)] if accuracy_auto else []),
        criterion_review(estimate_proportion(~is_auto, groups)),
        criterion_ood(estimate_proportion(is_ood, groups)),
        *_failed_class_criteria(recall_by_class),
    ]
    if n_groups == len(images):
        notes = [*notes, _NO_GROUPS]
    indices = np.array([labels.index(label) for label in y_true])
    probabilities = np.array([p.probabilities for p in predictions])
    return CellVerification(
        verdict=conclude(criteria, _describe_shortfall(len(images), n_groups)),
        cells=len(images),
        n_groups=n_groups,
        missed=sum(
            not found and image.label is not CellClass.PLATELET for image, found in zip(images, is_found, strict=True)
        ),
        agreement=agreement,
        kappa=cohen_kappa(y_true, y_pred, groups),
        silent_errors=estimate_proportion(np.array(is_silent), groups),
        auto_classified=auto_classified,
        accuracy_auto=accuracy_auto,
        recall_by_class=recall_by_class,
        classes=tuple(labels),
        confusion=confusion_matrix(y_true, y_pred, labels=labels).tolist(),
        calibration=refit_temperature(probabilities, indices, groups),
        notes=(*notes, *_underpowered_classes(labels, recall_by_class)),
    )


def _exclude_training_data(
    images: Sequence[LabelledImage], n_unknown_kinds: int, models: Models
) -> tuple[list[LabelledImage], list[str]]:
    """Return the cells of known classes that the models were not trained on, and notes on the others."""
    known = [image for image in images if image.label in models.classifier.card.classes]
    trainings = [model.card.training for model in models.classifiers]
    unseen = [image for image in known if not any(_was_seen(image, training) for training in trainings)]
    notes = []
    if n_unknown := len(images) - len(known) + n_unknown_kinds:
        notes.append(f"{pluralize(n_unknown, 'cell')} left out: the models do not know their classes")
    if n_seen := len(known) - len(unseen):
        notes.append(f"{pluralize(n_seen, 'cell')} left out: the models were trained on a data set of that name")
    return unseen, notes


def _was_seen(image: LabelledImage, training: TrainingInfo) -> bool:
    """Return whether a model was trained or calibrated on an image, if its data set is the model's of that name."""
    split = GroupSplit.from_card(training).assign(image)
    if image.dataset in (training.datasets or ()):
        return split is not Split.TEST
    return image.dataset in training.calibrated_on and split is Split.VALIDATION


def _describe_unfamiliar(familiarity: Familiarity) -> str:
    """Return what becomes of cells that are not known to be familiar."""
    begin = "all cells together are unlike the laboratories that the models know"
    if familiarity.is_familiar is None:
        begin = f"too few cells ({familiarity.cells}) to judge whether the models know cells like these"
    return f"{begin}, so, as in a run, the less sure ones are left to a reader"


def _proportion_within(
    successes: NDArray[np.bool_], groups: Sequence[str], mask: NDArray[np.bool_]
) -> Proportion | None:
    """Return the proportion of successes among the masked trials; None if there are none."""
    return Proportion.estimate(successes[mask], [group for group, chosen in zip(groups, mask, strict=True) if chosen])


def _failed_class_criteria(recall_by_class: Mapping[str, Proportion]) -> list[Criterion]:
    """Return the criteria of classes that surely fall short; an interval of a small class says little otherwise."""
    criteria = (
        criterion_class_recall(replace_underscores(label), recall)
        for label, recall in recall_by_class.items()
        if recall.total >= MIN_CELLS_PER_CLASS
    )
    return [criterion for criterion in criteria if criterion.is_failed]


def _underpowered_classes(labels: Sequence[str], recall_by_class: Mapping[str, Proportion]) -> list[str]:
    """Return a note on the classes with too few cells to judge them, if there are any."""
    totals = {label: recall.total for label, recall in recall_by_class.items()}
    underpowered = [replace_underscores(label) for label in labels if totals.get(label, 0) < MIN_CELLS_PER_CLASS]
    if not underpowered:
        return []
    return [f"classes with fewer than {MIN_CELLS_PER_CLASS} cells, which are not judged: {', '.join(underpowered)}"]


def _describe_shortfall(n_cells: int, n_groups: int) -> str:
    """Return which data are missing for a verdict; empty if none are."""
    if n_cells < MIN_CELLS:
        return f"{pluralize(n_cells, 'cell')}; {MIN_CELLS} needed"
    return f"the cells are from {pluralize(n_groups, 'group')}; {MIN_GROUPS} needed" if n_groups < MIN_GROUPS else ""

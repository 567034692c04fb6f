"""`wbctool verify`: a laboratory's own labelled cells, or its own manual differentials, against the models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wbctool.datasets.labelled import GroupSplit, LabelledImage, Split, find_unrecognized_folders, read_class_folders
from wbctool.datasets.manual_differentials import ManualDifferential
from wbctool.enums import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.classification import crop_labelled_cells, predict
from wbctool.inference.loading import Models
from wbctool.labels import CellClass
from wbctool.optional import require_extra
from wbctool.settings import Limits
from wbctool.text import pluralize
from wbctool.types.cells import Differential, Outcome, Prediction, Reason
from wbctool.types.progress import Progress
from wbctool.verification.agreement import (
    BlandAltman,
    Kappa,
    Proportion,
    TemperatureRefit,
    cohen_kappa,
    fisher_agrees,
    refit_temperature,
)
from wbctool.verification.criteria import (
    MIN_CELLS,
    MIN_CELLS_PER_CLASS,
    MIN_GROUPS,
    MIN_SLIDES,
    Criterion,
    VerificationResult,
    conclude,
    criterion_agreement,
    criterion_bias,
    criterion_class_recall,
    criterion_counted_accuracy,
    criterion_ood,
    criterion_review,
    criterion_sampling_error,
)


@dataclass(frozen=True, slots=True)
class CellVerification:
    """Labelled cells. recall_by_class: of each class, the share that the models named so. auto_classified: not left to a reader.

    notes: what was left out, and which classes nothing is said of.
    """

    verdict: VerificationResult
    cells: int
    n_groups: int
    agreement: Proportion
    kappa: Kappa | None
    auto_classified: Proportion
    accuracy_auto: Proportion | None
    recall_by_class: dict[str, Proportion]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    calibration: TemperatureRefit | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlideVerification:
    """Slides with a reader's differential.

    complete_slides: those of which tool and reader counted as many cells as a routine differential has. within_sampling_error: their pairs of slide
    and class that differ by no more than sampling explains, but for pairs that both have none of; None without any.
    """

    verdict: VerificationResult
    slides: int
    complete_slides: int
    within_sampling_error: Proportion | None
    bland_altman: tuple[BlandAltman, ...]
    notes: tuple[str, ...]


def verify_cells(
    data: Path, models: Models, mode: SuperResolve, progress: Progress = lambda items, _total, _what: items
) -> CellVerification:
    """Class folders of single-cell images through the stages of a run. Raises LabelledDataInvalid, MissingDependency."""
    with require_extra("evaluate", "`wbctool verify`"):
        import sklearn.metrics  # noqa: F401
    images, notes = _exclude_training_data(read_class_folders(data), models)
    notes += [
        f"folder {folder.name} is left out: its name is not a class" for folder in find_unrecognized_folders(data)
    ]
    if not images:
        raise LabelledDataInvalid("; ".join([f"{data}: no labelled cells to verify with", *notes]))
    crops = [cell.crop for cell in crop_labelled_cells(images, models, progress, data.resolve().name)]
    predictions = predict(crops, models, mode)
    card = models.classifier.card
    return compare_cells(images, predictions, card.classes, card.temperature, notes)


def compare_cells(
    images: Sequence[LabelledImage],
    predictions: Sequence[Prediction],
    classes: Sequence[CellClass],
    temperature: float,
    notes: Sequence[str] = (),
) -> CellVerification:
    """All figures of labelled cells, of which there is at least one, and the verdict."""
    from sklearn.metrics import confusion_matrix

    groups = [image.group for image in images]
    y_true, y_pred = [image.label.value for image in images], [p.label.value for p in predictions]
    correct = np.array([w == g for w, g in zip(y_true, y_pred, strict=True)])
    is_auto = np.array([p.outcome is not Outcome.NEEDS_REVIEW for p in predictions])
    is_ood = np.array([p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions])
    recall_by_class = {
        label: share
        for label in (c.value for c in classes)
        if (share := _proportion_within(correct, groups, np.array([w == label for w in y_true]))) is not None
    }
    agreement, review, ood = _proportion(correct, groups), _proportion(~is_auto, groups), _proportion(is_ood, groups)
    accuracy_auto = _proportion_within(correct, groups, is_auto)
    powered = {label: share for label, share in recall_by_class.items() if share.total >= MIN_CELLS_PER_CLASS}
    criteria = [
        criterion_agreement(agreement),
        *([criterion_counted_accuracy(accuracy_auto)] if accuracy_auto else []),
        criterion_review(review),
        criterion_ood(ood),
        *_failed_class_criteria(powered),
    ]
    indices = np.array([list(classes).index(image.label) for image in images])
    probabilities = np.array([p.probabilities for p in predictions])
    return CellVerification(
        verdict=conclude(criteria, _describe_shortfall(len(images), len(set(groups)))),
        cells=len(images),
        n_groups=len(set(groups)),
        agreement=agreement,
        kappa=cohen_kappa(y_true, y_pred, groups),
        auto_classified=_proportion(is_auto, groups),
        accuracy_auto=accuracy_auto,
        recall_by_class=recall_by_class,
        classes=tuple(c.value for c in classes),
        confusion=confusion_matrix(y_true, y_pred, labels=[c.value for c in classes]).tolist(),
        calibration=refit_temperature(probabilities, indices, groups, temperature),
        notes=(*notes, *_underpowered_classes(classes, recall_by_class)),
    )


def compare_slides(
    manual: Mapping[str, ManualDifferential], automated: Mapping[str, Differential]
) -> SlideVerification:
    """A reader's differentials against the tool's, slide by slide and class by class.

    Raises LabelledDataInvalid where no slide has both.
    """
    notes = [f"{slide} is left out: no such slide, or it failed" for slide in manual if slide not in automated]
    notes += [f"{slide} is left out: no reader's differential" for slide in automated if slide not in manual]
    notes += [
        f"{slide} is left out: no cell was counted"
        for slide in manual
        if slide in automated and not automated[slide].counted
    ]
    compared = [slide for slide in manual if slide in automated and automated[slide].counted]
    if not compared:
        raise LabelledDataInvalid("; ".join(["no slide has both a reader's differential and counted cells", *notes]))
    min_counted = int(Limits.model_fields["low_count_below"].default)
    complete_slides = {
        slide for slide in compared if min(automated[slide].counted, manual[slide].counted) >= min_counted
    }
    agreements: list[bool] = []
    agreement_slides: list[str] = []
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    for slide in compared:
        reader = manual[slide]
        for count in automated[slide].classes:
            if not count.assessed or count.percent is None or count.label not in reader.percents:
                continue
            tool_percents, reader_percents = pairs.setdefault(count.label.value, ([], []))
            tool_percents.append(count.percent)
            reader_percents.append(reader.percents[count.label])
            reader_n = reader.cell_count(count.label)
            if slide in complete_slides and (count.n or reader_n):
                agreements.append(fisher_agrees(count.n, automated[slide].counted, reader_n, reader.counted))
                agreement_slides.append(slide)
    if len(complete_slides) < len(compared):
        notes.append(
            f"not in the verdict: {pluralize(len(compared) - len(complete_slides), 'slide')} with fewer than {min_counted} cells counted "
            "by the tool or the reader"
        )
    within_sampling_error = Proportion.estimate(np.array(agreements, dtype=np.bool_), agreement_slides)
    shortfall = (
        ""
        if len(complete_slides) >= MIN_SLIDES
        else f"{pluralize(len(complete_slides), 'slide')} with {min_counted} counted cells; {MIN_SLIDES} needed"
    )
    criteria = [
        *([criterion_sampling_error(within_sampling_error)] if within_sampling_error else []),
        *(
            criterion_bias(found)
            for found in _compare_complete_slides(pairs, [slide in complete_slides for slide in compared])
        ),
        *([criterion_review(_review_proportion(complete_slides, automated))] if complete_slides else []),
    ]
    return SlideVerification(
        verdict=conclude(criteria, shortfall),
        slides=len(compared),
        complete_slides=len(complete_slides),
        within_sampling_error=within_sampling_error,
        bland_altman=tuple(
            ba for label, (a, b) in pairs.items() if (ba := BlandAltman.from_percents(label, a, b)) is not None
        ),
        notes=tuple(notes),
    )


def _compare_complete_slides(
    pairs: Mapping[str, tuple[list[float], list[float]]], is_complete: Sequence[bool]
) -> list[BlandAltman]:
    """pairs: by class, (the tool's percents, the reader's), one a slide. is_complete: which slides count."""
    mask = np.array(is_complete)
    comparisons = (
        BlandAltman.from_percents(label, np.array(ours)[mask].tolist(), np.array(theirs)[mask].tolist())
        for label, (ours, theirs) in pairs.items()
    )
    return [one for one in comparisons if one is not None]


def _review_proportion(slides: Collection[str], automated: Mapping[str, Differential]) -> Proportion:
    numbers = [(slide, automated[slide].review, automated[slide].cells) for slide in sorted(slides)]
    is_review = np.concatenate([np.arange(cells) < review for _, review, cells in numbers])
    return _proportion(is_review, [slide for slide, _, cells in numbers for _ in range(cells)])


def _exclude_training_data(images: Sequence[LabelledImage], models: Models) -> tuple[list[LabelledImage], list[str]]:
    """The cells whose class the models know and that they were not trained on, and what is to be said of the others."""
    card = models.classifier.card
    group_split, calibrated_on = GroupSplit.from_card(card.training), card.training.get("calibrated_on", ())
    training_splits = {
        (origin, split) for origin in card.training.get("datasets", ()) for split in (Split.TRAIN, Split.VALIDATION)
    }
    training_splits |= {(origin, Split.VALIDATION) for origin in calibrated_on}
    known_images = [image for image in images if image.label in card.classes]
    unseen_images = [
        image for image in known_images if (image.dataset, group_split.assign(image)) not in training_splits
    ]
    notes = []
    if len(known_images) < len(images):
        notes.append(
            f"{pluralize(len(images) - len(known_images), 'cell')} left out: the models do not know their classes"
        )
    if len(unseen_images) < len(known_images):
        notes.append(
            f"{pluralize(len(known_images) - len(unseen_images), 'cell')} left out: the models were trained on a data set of that name"
        )
    return unseen_images, notes


def _proportion_within(successes: np.ndarray, groups: Sequence[str], mask: np.ndarray) -> Proportion | None:
    return Proportion.estimate(successes[mask], [source for source, chosen in zip(groups, mask, strict=True) if chosen])


def _proportion(successes: np.ndarray, groups: Sequence[str]) -> Proportion:
    proportion = Proportion.estimate(successes, groups)
    assert proportion is not None
    return proportion


def _failed_class_criteria(recall_by_class: Mapping[str, Proportion]) -> list[Criterion]:
    """Of the classes only those that surely fall short: the rest of a small class's interval says little."""
    criteria = [criterion_class_recall(label.replace("_", " "), share) for label, share in recall_by_class.items()]
    return [criterion for criterion in criteria if criterion.is_failed]


def _underpowered_classes(classes: Sequence[CellClass], recall_by_class: Mapping[str, Proportion]) -> list[str]:
    underpowered = [
        c.value
        for c in classes
        if c.value not in recall_by_class or recall_by_class[c.value].total < MIN_CELLS_PER_CLASS
    ]
    if not underpowered:
        return []
    names = ", ".join(name.replace("_", " ") for name in underpowered)
    return [f"classes with fewer than {MIN_CELLS_PER_CLASS} cells, of which nothing is said: {names}"]


def _describe_shortfall(n_cells: int, n_groups: int) -> str:
    if n_cells < MIN_CELLS:
        return f"{pluralize(n_cells, 'cell')}; {MIN_CELLS} needed"
    return f"the cells are from {pluralize(n_groups, 'source')}; {MIN_GROUPS} needed" if n_groups < MIN_GROUPS else ""

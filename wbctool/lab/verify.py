"""`wbctool verify`: a laboratory's own labelled cells, or its own manual differentials, against the models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wbctool.choices import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.extras import needing
from wbctool.lab.agreement import (
    BlandAltman,
    Calibration,
    Kappa,
    Share,
    cohen_kappa,
    recalibrate,
    same_by_sampling,
)
from wbctool.lab.classification import find_crops, predict
from wbctool.lab.differentials import ReadSlide
from wbctool.lab.labelled import LabelledImage, Split, Splitting, read_class_folders, unread_folders
from wbctool.lab.progress import Progress
from wbctool.lab.verdict import (
    MIN_CELLS,
    MIN_OF_A_CLASS,
    MIN_SLIDES,
    MIN_SOURCES,
    Criterion,
    Verdict,
    agreement_criterion,
    bias_criterion,
    class_criterion,
    counted_criterion,
    decide,
    review_criterion,
    sampling_criterion,
    unknown_criterion,
)
from wbctool.labels import CellClass
from wbctool.models import Models
from wbctool.records import Differential, Outcome, Prediction, Reason
from wbctool.settings import Limits
from wbctool.wording import number_of


@dataclass(frozen=True, slots=True)
class CellVerification:
    """Labelled cells. found: of each class, the share that the models named so. decided: not left to a reader.

    notes: what was left out, and which classes nothing is said of.
    """

    verdict: Verdict
    cells: int
    sources: int
    agreement: Share
    kappa: Kappa | None
    decided: Share
    right_among_decided: Share | None
    found: dict[str, Share]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    calibration: Calibration | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlideVerification:
    """Slides with a reader's differential.

    full: those of which tool and reader counted as many cells as a routine differential has. same: their pairs of slide
    and class that differ by no more than sampling explains, but for pairs that both have none of; None without any.
    """

    verdict: Verdict
    slides: int
    full: int
    same: Share | None
    bland_altman: tuple[BlandAltman, ...]
    notes: tuple[str, ...]


def verify_cells(
    data: Path, models: Models, mode: SuperResolve, progress: Progress = lambda items, _total, _what: items
) -> CellVerification:
    """Class folders of single-cell images through the stages of a run. Raises LabelledDataInvalid, ExtraMissing."""
    with needing("evaluate", "`wbctool verify`"):
        import sklearn.metrics  # noqa: F401
    images, notes = _fresh(read_class_folders(data), models)
    notes += [f"folder {folder.name} is left out: its name is not a class" for folder in unread_folders(data)]
    if not images:
        raise LabelledDataInvalid("; ".join([f"{data}: no labelled cells to verify with", *notes]))
    crops = [cell.crop for cell in find_crops(images, models, progress, data.resolve().name)]
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

    sources = [image.source for image in images]
    wanted, got = [image.label.value for image in images], [p.label.value for p in predictions]
    right = np.array([w == g for w, g in zip(wanted, got, strict=True)])
    decided = np.array([p.outcome is not Outcome.REVIEW for p in predictions])
    unknown = np.array([p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions])
    found = {
        label: share
        for label in (c.value for c in classes)
        if (share := _share(right, sources, np.array([w == label for w in wanted]))) is not None
    }
    agreement, review, odd = _all(right, sources), _all(~decided, sources), _all(unknown, sources)
    among_decided = _share(right, sources, decided)
    enough = {label: share for label, share in found.items() if share.total >= MIN_OF_A_CLASS}
    criteria = [
        agreement_criterion(agreement),
        *([counted_criterion(among_decided)] if among_decided else []),
        review_criterion(review),
        unknown_criterion(odd),
        *_weak_classes(enough),
    ]
    indices = np.array([list(classes).index(image.label) for image in images])
    probabilities = np.array([p.probabilities for p in predictions])
    return CellVerification(
        verdict=decide(criteria, _too_few_cells(len(images), len(set(sources)))),
        cells=len(images),
        sources=len(set(sources)),
        agreement=agreement,
        kappa=cohen_kappa(wanted, got, sources),
        decided=_all(decided, sources),
        right_among_decided=among_decided,
        found=found,
        classes=tuple(c.value for c in classes),
        confusion=confusion_matrix(wanted, got, labels=[c.value for c in classes]).tolist(),
        calibration=recalibrate(probabilities, indices, sources, temperature),
        notes=(*notes, *_unsaid(classes, found)),
    )


def compare_slides(read: Mapping[str, ReadSlide], counted: Mapping[str, Differential]) -> SlideVerification:
    """A reader's differentials against the tool's, slide by slide and class by class.

    Raises LabelledDataInvalid where no slide has both.
    """
    notes = [f"{slide} is left out: no such slide, or it failed" for slide in read if slide not in counted]
    notes += [f"{slide} is left out: no reader's differential" for slide in counted if slide not in read]
    notes += [
        f"{slide} is left out: no cell was counted" for slide in read if slide in counted and not counted[slide].counted
    ]
    both = [slide for slide in read if slide in counted and counted[slide].counted]
    if not both:
        raise LabelledDataInvalid("; ".join(["no slide has both a reader's differential and counted cells", *notes]))
    enough = int(Limits.model_fields["min_counted"].default)
    full = {slide for slide in both if min(counted[slide].counted, read[slide].counted) >= enough}
    same: list[bool] = []
    whose: list[str] = []
    pairs: dict[str, tuple[list[float], list[float]]] = {}
    for slide in both:
        reader = read[slide]
        for count in counted[slide].classes:
            if not count.assessed or count.percent is None or count.label not in reader.percents:
                continue
            ours, theirs = pairs.setdefault(count.label.value, ([], []))
            ours.append(count.percent)
            theirs.append(reader.percents[count.label])
            n = reader.n(count.label)
            if slide in full and (count.n or n):
                same.append(same_by_sampling(count.n, counted[slide].counted, n, reader.counted))
                whose.append(slide)
    if len(full) < len(both):
        notes.append(
            f"not in the verdict: {number_of(len(both) - len(full), 'slide')} with fewer than {enough} cells counted "
            "by the tool or the reader"
        )
    share = Share.of(np.array(same, dtype=np.bool_), whose)
    few = (
        ""
        if len(full) >= MIN_SLIDES
        else f"{number_of(len(full), 'slide')} with {enough} counted cells; {MIN_SLIDES} needed"
    )
    criteria = [
        *([sampling_criterion(share)] if share else []),
        *(bias_criterion(found) for found in _of_full(pairs, [slide in full for slide in both])),
        *([review_criterion(_left_to_a_reader(full, counted))] if full else []),
    ]
    return SlideVerification(
        verdict=decide(criteria, few),
        slides=len(both),
        full=len(full),
        same=share,
        bland_altman=tuple(ba for label, (a, b) in pairs.items() if (ba := BlandAltman.of(label, a, b)) is not None),
        notes=tuple(notes),
    )


def _of_full(pairs: Mapping[str, tuple[list[float], list[float]]], full: Sequence[bool]) -> list[BlandAltman]:
    """pairs: by class, (the tool's percents, the reader's), one a slide. full: which slides count."""
    chosen = np.array(full)
    found = (
        BlandAltman.of(label, np.array(ours)[chosen].tolist(), np.array(theirs)[chosen].tolist())
        for label, (ours, theirs) in pairs.items()
    )
    return [one for one in found if one is not None]


def _left_to_a_reader(slides: Collection[str], counted: Mapping[str, Differential]) -> Share:
    numbers = [(slide, counted[slide].review, counted[slide].cells) for slide in sorted(slides)]
    left = np.concatenate([np.arange(cells) < review for _, review, cells in numbers])
    return _all(left, [slide for slide, _, cells in numbers for _ in range(cells)])


def _fresh(images: Sequence[LabelledImage], models: Models) -> tuple[list[LabelledImage], list[str]]:
    """The cells whose class the models know and that they were not trained on, and what is to be said of the others."""
    card = models.classifier.card
    splitting, calibrated_on = Splitting.of_card(card.training), card.training.get("calibrated_on", ())
    seen = {(origin, split) for origin in card.training.get("origins", ()) for split in (Split.TRAIN, Split.VALIDATION)}
    seen |= {(origin, Split.VALIDATION) for origin in calibrated_on}
    known = [image for image in images if image.label in card.classes]
    fresh = [image for image in known if (image.origin, splitting.of(image)) not in seen]
    notes = []
    if len(known) < len(images):
        notes.append(f"{number_of(len(images) - len(known), 'cell')} left out: the models do not know their classes")
    if len(fresh) < len(known):
        notes.append(
            f"{number_of(len(known) - len(fresh), 'cell')} left out: the models were trained on a data set of that name"
        )
    return fresh, notes


def _share(hits: np.ndarray, sources: Sequence[str], inside: np.ndarray) -> Share | None:
    return Share.of(hits[inside], [source for source, chosen in zip(sources, inside, strict=True) if chosen])


def _all(hits: np.ndarray, sources: Sequence[str]) -> Share:
    share = Share.of(hits, sources)
    assert share is not None
    return share


def _weak_classes(found: Mapping[str, Share]) -> list[Criterion]:
    """Of the classes only those that surely fall short: the rest of a small class's interval says little."""
    criteria = [class_criterion(label.replace("_", " "), share) for label, share in found.items()]
    return [criterion for criterion in criteria if criterion.failed]


def _unsaid(classes: Sequence[CellClass], found: Mapping[str, Share]) -> list[str]:
    few = [c.value for c in classes if c.value not in found or found[c.value].total < MIN_OF_A_CLASS]
    if not few:
        return []
    names = ", ".join(name.replace("_", " ") for name in few)
    return [f"classes with fewer than {MIN_OF_A_CLASS} cells, of which nothing is said: {names}"]


def _too_few_cells(cells: int, sources: int) -> str:
    if cells < MIN_CELLS:
        return f"{number_of(cells, 'cell')}; {MIN_CELLS} needed"
    return f"the cells are from {number_of(sources, 'source')}; {MIN_SOURCES} needed" if sources < MIN_SOURCES else ""

"""How the classifier treats out-of-distribution images: red cells, background, smudges, unknown classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
from numpy.random import Generator

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledField
from wbctool.enums import SuperResolve
from wbctool.evaluation.classification import LabelledCrop, predict
from wbctool.imaging.crop import crop_cells, square_crop_box
from wbctool.inference.loading import Models
from wbctool.types.cells import Box, Crop, Field, ObjectClass, Outcome, Reason
from wbctool.types.progress import Progress

_T = TypeVar("_T")
_SEED = 0
_MAX_TRIES = 20  # random positions of a background square in a field until none touches a white cell or platelet
_SMUDGE_SIGMA = 0.08  # of the Gaussian, as a part of the crop's side: it leaves no nuclear structure


@dataclass(frozen=True, slots=True)
class OodReport:
    """How the classifier treats one kind of image that fits none of its classes.

    Attributes:
        kind: What the images show.
        crops: Number of images.
        out_of_distribution: Fraction that the energy threshold sends to review, in [0, 1].
        review: Fraction sent to review for any reason, in [0, 1].
        not_wbc: Fraction classified as platelet or erythroblast, and so not in the differential, in [0, 1].
        counted: Fraction wrongly counted in the differential, in [0, 1].
    """

    kind: str
    crops: int
    out_of_distribution: float
    review: float
    not_wbc: float
    counted: float


def evaluate_ood(
    fields: Sequence[LabelledField],
    cells: Sequence[Crop],
    unknown_cells: Sequence[LabelledCrop],
    models: Models,
    mode: SuperResolve,
    limit: int,
    progress: Progress,
    red_cells_per_field: int = 3,
) -> tuple[OodReport, ...]:
    """Classify out-of-distribution images of several kinds.

    Args:
        fields: Annotated fields; red cells and background are cut from them, away from white cells and platelets.
        cells: Crops of white cells, which are blurred to smudges.
        unknown_cells: Cells of classes that the model does not have.
        models: The generator and the classifier.
        mode: When crops are super-resolved.
        limit: Maximum number of images of each kind; 0 gives an empty result.
        progress: Wraps the kinds.
        red_cells_per_field: Maximum number of red cells from one field.

    Returns:
        One report for each kind of which there is an image.

    Raises:
        LabelledDataInvalid: A field cannot be read.
    """
    if not limit:
        return ()
    rng = np.random.default_rng(_SEED)
    margin = models.classifier.card.crop_margin
    unknown_classes = sorted({cell.image.label for cell in unknown_cells})
    kinds: dict[str, list[Crop]] = {
        "red cells": list(islice(_iter_red_cells(_shuffle(fields, rng), margin, red_cells_per_field), limit)),
        "background": list(islice(_iter_background(_shuffle(fields, rng), margin, rng), limit)),
        "smudges": [_blur_to_smudge(crop) for crop in _shuffle(cells, rng)[:limit]],
        **{
            f"{label}, not trained": [cell.crop for cell in unknown_cells if cell.image.label is label][:limit]
            for label in unknown_classes
        },
    }
    nonempty = {kind: crops for kind, crops in kinds.items() if crops}
    return tuple(
        _summarize(kind, crops, models, mode)
        for kind, crops in progress(nonempty.items(), len(nonempty), "out-of-distribution images")
    )


def _summarize(kind: str, crops: list[Crop], models: Models, mode: SuperResolve) -> OodReport:
    """Classify the images of one kind and count their outcomes."""
    predictions = predict(crops, models, mode)

    def outcome_fraction(outcome: Outcome) -> float:
        return float(np.mean([p.outcome is outcome for p in predictions]))

    return OodReport(
        kind=kind,
        crops=len(crops),
        out_of_distribution=float(np.mean([p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions])),
        review=outcome_fraction(Outcome.NEEDS_REVIEW),
        not_wbc=outcome_fraction(Outcome.NOT_WBC),
        counted=outcome_fraction(Outcome.COUNTED),
    )


def _iter_red_cells(fields: Sequence[LabelledField], margin: float, per_field: int) -> Iterator[Crop]:
    """Yield red cells that lie apart from white cells and platelets."""
    for annotated in fields:
        red_cells = [b.box for b in annotated.boxes if b.object_class is ObjectClass.RED_CELL]
        if red_cells:
            field = read_labelled_field(annotated.path)
            isolated = [box for box in red_cells if _is_isolated(box, annotated, field, margin)]
            yield from crop_cells(field, isolated[:per_field], margin)


def _iter_background(fields: Sequence[LabelledField], margin: float, rng: Generator) -> Iterator[Crop]:
    """Yield squares as large as the field's white cells, without white cells and platelets, one a field."""
    for annotated in fields:
        sides_px = [b.box.longer_side_px for b in annotated.boxes if b.object_class is ObjectClass.NUCLEATED]
        if not sides_px:
            continue
        field = read_labelled_field(annotated.path)
        height, width = field.rgb.shape[:2]
        side = round(float(np.median(sides_px)))
        for _ in range(_MAX_TRIES):
            x, y = int(rng.integers(max(1, width - side))), int(rng.integers(max(1, height - side)))
            square = Box(x, y, side, side)
            if _is_isolated(square, annotated, field, margin):
                yield from crop_cells(field, [square], margin)
                break


def _is_isolated(box: Box, annotated: LabelledField, field: Field, margin: float) -> bool:
    """Return whether the crop of a box, which is larger than the box, touches no white cell or platelet."""
    crop_box = square_crop_box(box, margin, *field.rgb.shape[:2])
    return not any(crop_box.iou(b.box) for b in annotated.boxes if b.object_class is not ObjectClass.RED_CELL)


def _blur_to_smudge(crop: Crop) -> Crop:
    """Blur a crop until it shows no structure."""
    blurred = cv2.GaussianBlur(crop.rgb, (0, 0), _SMUDGE_SIGMA * crop.side_px)
    return Crop(np.asarray(blurred, np.uint8))


def _shuffle(items: Sequence[_T], rng: Generator) -> list[_T]:
    """Return the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]

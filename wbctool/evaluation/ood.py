"""What the classifier says of pictures that are none of its cells: red cells, background, smudges, unknown classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
from numpy.random import Generator

from wbctool.datasets.labelled import LabelledField
from wbctool.enums import SuperResolve
from wbctool.evaluation.classification import LabelledCrop, predict
from wbctool.imaging.crop import crop_cells, square_crop_box
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import Models
from wbctool.types.cells import Box, Crop, Field, ObjectClass, Outcome, Reason
from wbctool.types.progress import Progress

Item = TypeVar("Item")
_SEED = 0
_MAX_TRIES = 20  # to find a place in a field that no white cell or platelet touches
_RED_CELLS_PER_FIELD = 3
_SMUDGE_SIGMA = 0.08  # the Gaussian's sigma over the crop's side: no nuclear structure is left


@dataclass(frozen=True, slots=True)
class OodReport:
    """One kind of picture that no class fits. Shares are of ``crops``.

    out_of_distribution: stopped by the energy gate. review: by it or by low confidence. not_wbc: called a platelet
    or an erythroblast, and so kept out of the differential too. counted: entered the differential, wrongly.
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
) -> tuple[OodReport, ...]:
    """At most ``limit`` pictures of each kind through the classifier.

    fields: red cells and background are cut from them, where annotated objects are not. cells: blurred to smudges.
    unknown_cells: cells of classes that the model's card does not name.
    """
    if not limit:
        return ()
    rng = np.random.default_rng(_SEED)
    margin = models.classifier.card.crop_margin
    classes = sorted({cell.image.label for cell in unknown_cells})
    kinds: dict[str, list[Crop]] = {
        "red cells": list(islice(_iter_red_cells(_shuffle(fields, rng), margin), limit)),
        "background": list(islice(_iter_background(_shuffle(fields, rng), margin, rng), limit)),
        "smudges": [_blur_to_smudge(crop) for crop in _shuffle(cells, rng)[:limit]],
        **{
            f"{c}, not trained": [cell.crop for cell in unknown_cells if cell.image.label is c][:limit] for c in classes
        },
    }
    nonempty = {kind: crops for kind, crops in kinds.items() if crops}
    return tuple(
        _summarize(kind, crops, models, mode) for kind, crops in progress(nonempty.items(), len(nonempty), "strangers")
    )


def _summarize(kind: str, crops: list[Crop], models: Models, mode: SuperResolve) -> OodReport:
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


def _iter_red_cells(fields: Sequence[LabelledField], margin: float) -> Iterator[Crop]:
    for annotated in fields:
        red_cells = [b.box for b in annotated.boxes if b.object_class is ObjectClass.RED_CELL]
        if red_cells:
            field = read_field(annotated.path)
            isolated = [box for box in red_cells if _is_isolated(box, annotated, field, margin)]
            yield from crop_cells(field, isolated[:_RED_CELLS_PER_FIELD], margin)


def _iter_background(fields: Sequence[LabelledField], margin: float, rng: Generator) -> Iterator[Crop]:
    """Squares as large as the field's white cells in which none is, and no platelet; red cells may be."""
    for annotated in fields:
        sides_px = [b.box.longer_side_px for b in annotated.boxes if b.object_class is ObjectClass.NUCLEATED]
        if not sides_px:
            continue
        field = read_field(annotated.path)
        height, width = field.rgb.shape[:2]
        side = round(float(np.median(sides_px)))
        for _ in range(_MAX_TRIES):
            x, y = int(rng.integers(max(1, width - side))), int(rng.integers(max(1, height - side)))
            square = Box(x, y, side, side)
            if _is_isolated(square, annotated, field, margin):
                yield from crop_cells(field, [square], margin)
                break


def _is_isolated(box: Box, annotated: LabelledField, field: Field, margin: float) -> bool:
    """Whether no white cell or platelet lies in the crop of a box, which is larger than the box."""
    crop_box = square_crop_box(box, margin, *field.rgb.shape[:2])
    return not any(crop_box.iou(b.box) for b in annotated.boxes if b.object_class is not ObjectClass.RED_CELL)


def _blur_to_smudge(crop: Crop) -> Crop:
    blurred = cv2.GaussianBlur(crop.rgb, (0, 0), _SMUDGE_SIGMA * crop.side_px)
    return Crop(np.asarray(blurred, np.uint8))


def _shuffle(items: Sequence[Item], rng: Generator) -> list[Item]:
    return [items[i] for i in rng.permutation(len(items))]

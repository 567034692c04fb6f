"""What the classifier says of pictures that are none of its cells: red cells, background, smudges, unknown classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import cv2
import numpy as np
from numpy.random import Generator

from wbctool.choices import SuperResolve
from wbctool.lab.classification import LabelledCrop, predict
from wbctool.lab.labelled import LabelledField
from wbctool.lab.progress import Progress
from wbctool.models import Models
from wbctool.records import Box, Crop, Field, Outcome, Reason, Target
from wbctool.stages.crop import crop_cells, square_around
from wbctool.stages.images import read_field

Item = TypeVar("Item")
_SEED = 0
_TRIES = 20  # to find a place in a field that no white cell or platelet touches
_RED_CELLS_OF_A_FIELD = 3
_SMUDGE = 0.08  # the Gaussian's sigma over the crop's side: no nuclear structure is left


@dataclass(frozen=True, slots=True)
class StrangersReport:
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


def show_strangers(
    fields: Sequence[LabelledField],
    cells: Sequence[Crop],
    unknown: Sequence[LabelledCrop],
    models: Models,
    mode: SuperResolve,
    limit: int,
    progress: Progress,
) -> tuple[StrangersReport, ...]:
    """At most ``limit`` pictures of each kind through the classifier.

    fields: red cells and background are cut from them, where annotated objects are not. cells: blurred to smudges.
    unknown: cells of classes that the model's card does not name.
    """
    if not limit:
        return ()
    rng = np.random.default_rng(_SEED)
    margin = models.classifier.card.crop_margin
    classes = sorted({cell.image.label for cell in unknown})
    kinds: dict[str, list[Crop]] = {
        "red cells": list(islice(_red_cells(_shuffled(fields, rng), margin), limit)),
        "background": list(islice(_background(_shuffled(fields, rng), margin, rng), limit)),
        "smudges": [_smudge(crop) for crop in _shuffled(cells, rng)[:limit]],
        **{f"{c}, not trained": [cell.crop for cell in unknown if cell.image.label is c][:limit] for c in classes},
    }
    shown = {kind: crops for kind, crops in kinds.items() if crops}
    return tuple(_report(kind, crops, models, mode) for kind, crops in progress(shown.items(), len(shown), "strangers"))


def _report(kind: str, crops: list[Crop], models: Models, mode: SuperResolve) -> StrangersReport:
    predictions = predict(crops, models, mode)

    def share(outcome: Outcome) -> float:
        return float(np.mean([p.outcome is outcome for p in predictions]))

    return StrangersReport(
        kind=kind,
        crops=len(crops),
        out_of_distribution=float(np.mean([p.reason is Reason.OUT_OF_DISTRIBUTION for p in predictions])),
        review=share(Outcome.REVIEW),
        not_wbc=share(Outcome.NOT_WBC),
        counted=share(Outcome.COUNTED),
    )


def _red_cells(fields: Sequence[LabelledField], margin: float) -> Iterator[Crop]:
    for annotated in fields:
        red = [b.box for b in annotated.boxes if b.target is Target.RED_CELL]
        if red:
            field = read_field(annotated.path)
            alone = [box for box in red if _shows_no_other(box, annotated, field, margin)]
            yield from crop_cells(field, alone[:_RED_CELLS_OF_A_FIELD], margin)


def _background(fields: Sequence[LabelledField], margin: float, rng: Generator) -> Iterator[Crop]:
    """Squares as large as the field's white cells in which none is, and no platelet; red cells may be."""
    for annotated in fields:
        white = [b.box.side_px for b in annotated.boxes if b.target is Target.NUCLEATED]
        if not white:
            continue
        field = read_field(annotated.path)
        height, width = field.rgb.shape[:2]
        side = round(float(np.median(white)))
        for _ in range(_TRIES):
            x, y = int(rng.integers(max(1, width - side))), int(rng.integers(max(1, height - side)))
            square = Box(x, y, side, side)
            if _shows_no_other(square, annotated, field, margin):
                yield from crop_cells(field, [square], margin)
                break


def _shows_no_other(box: Box, annotated: LabelledField, field: Field, margin: float) -> bool:
    """Whether no white cell or platelet lies in the crop of a box, which is larger than the box."""
    seen = square_around(box, margin, *field.rgb.shape[:2])
    return not any(seen.iou(b.box) for b in annotated.boxes if b.target is not Target.RED_CELL)


def _smudge(crop: Crop) -> Crop:
    blurred = cv2.GaussianBlur(crop.rgb, (0, 0), _SMUDGE * crop.side_px)
    return Crop(np.asarray(blurred, np.uint8))


def _shuffled(items: Sequence[Item], rng: Generator) -> list[Item]:
    return [items[i] for i in rng.permutation(len(items))]

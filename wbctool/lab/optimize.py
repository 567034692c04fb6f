"""`wbctool models optimize`: int8 or fp16 copies of classifier and generator that change little, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.cards import CardT, ClassifierCard, GeneratorCard, read_model_bytes
from wbctool.choices import Precision
from wbctool.lab.calibration_cells import CalibrationCells, turned
from wbctool.lab.copies import Limits, OptimisedModel, Shown, Trial, make_copy
from wbctool.lab.progress import Progress
from wbctool.lab.sampling import spread
from wbctool.lab.super_resolution import CLEAN_SIGMA_PX, SCALE, reduce_to
from wbctool.models import Models
from wbctool.onnx_model import OnnxModel
from wbctool.stages.classify import classify_cells
from wbctool.stages.upscale import PREPARED_PX, resize_square

Rgb = NDArray[np.uint8]

_BATCH = 4
_PROBES = 4  # cells that tell the layers' sensitivities, and how long a cell takes
_GENERATED = 160  # at most so many cells to measure the generator on, which takes its time
_SIDES_PX = (32, 40, 48, 64)  # of what the generator is shown


def optimise_classifier(
    models: Models,
    folder: Path,
    cells: CalibrationCells,
    progress: Progress,
    precision: Precision = Precision.INT8,
    limits: Limits | None = None,
) -> OptimisedModel[ClassifierCard]:
    """A copy of the classifier. models: the fp32 ones of ``folder``. precision: int8 or fp16.

    Raises CopyRefused, ExtraMissing.
    """
    rgb = turned(cells.measure) if cells.turns > 1 else cells.measure
    probes = np.stack(_probes(cells, models.classifier))

    def show(model: OnnxModel[ClassifierCard]) -> Shown:
        return Shown(classify_cells(rgb, model))

    trial = Trial(
        model=models.classifier,
        content=read_model_bytes(models.classifier.card, folder),
        precision=precision,
        calibration=_batches(turned(cells.calibrate)),
        cells=cells,
        shown=len(cells.measure),
        labels=cells.labels and cells.labels * cells.turns,
        show=show,
        probe=lambda model: np.asarray(model.run(probes)[0], np.float64),
        probes=len(probes),
    )
    return make_copy(trial, limits or Limits(), progress)


def optimise_generator(
    models: Models,
    folder: Path,
    cells: CalibrationCells,
    progress: Progress,
    precision: Precision = Precision.INT8,
    limits: Limits | None = None,
) -> OptimisedModel[GeneratorCard]:
    """A copy of the generator: its cells are reduced to 32 to 64 px, and the fp32 classifier names its pictures.

    models: the fp32 ones of ``folder``. Raises CopyRefused, ExtraMissing.
    """
    card = models.generator.card
    chosen = spread(range(len(cells.measure)), _GENERATED)
    small = reduced(cells.measure[chosen], card)
    calibration = [one[None] for one in reduced(cells.calibrate, card)]
    probes = np.stack([resize_square(one, card.min_px) for one in _probes(cells, models.generator)])

    def show(model: OnnxModel[GeneratorCard]) -> Shown:
        pictures = tuple(model.run(one[None])[0][0] for one in small)
        prepared = np.stack([resize_square(picture, PREPARED_PX) for picture in pictures])
        return Shown(classify_cells(prepared, models.classifier), pictures)

    trial = Trial(
        model=models.generator,
        content=read_model_bytes(card, folder),
        precision=precision,
        calibration=calibration,
        cells=cells,
        shown=len(small),
        labels=cells.labels and tuple(cells.labels[index] for index in chosen),
        show=show,
        probe=lambda model: np.asarray(model.run(probes)[0], np.float64),
        probes=len(probes),
    )
    return make_copy(trial, limits or Limits(), progress)


def reduced(rgb: Rgb, card: GeneratorCard) -> list[Rgb]:
    """rgb: (N, 128, 128, 3) -> N cells of the sides that the generator takes, by turns: (s, s, 3) each."""
    sides = [side for side in _SIDES_PX if card.min_px <= side <= card.max_px] or [card.min_px]
    small = []
    for index, image in enumerate(rgb):
        side = sides[index % len(sides)]
        small.append(reduce_to(image, side, side, CLEAN_SIGMA_PX * PREPARED_PX / (SCALE * side)))
    return small


def _probes(cells: CalibrationCells, model: OnnxModel[CardT]) -> list[Rgb]:
    """As many cells as fill whole batches: on a GPU one of many rows costs the same with fewer cells in it."""
    few = spread(list(cells.calibrate), _PROBES)
    return [few[index % len(few)] for index in range(max(_PROBES, model.rows))]


def _batches(rgb: Rgb) -> list[Rgb]:
    return [rgb[start : start + _BATCH] for start in range(0, len(rgb), _BATCH)]

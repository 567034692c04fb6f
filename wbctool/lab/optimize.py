"""`wbctool models optimize`: int8 copies of classifier and generator that change little, or none."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from wbctool.cards import CardT, ClassifierCard, GeneratorCard, Int8Copy, read_model_bytes
from wbctool.errors import CopyRefused
from wbctool.lab.calibration_cells import CalibrationCells, spread, turned
from wbctool.lab.precisions import changed_labels, changed_outcomes, share_right
from wbctool.lab.progress import Progress
from wbctool.lab.quantisation import calibrate, quantise
from wbctool.lab.super_resolution import CLEAN_SIGMA_PX, SCALE, reduce_to
from wbctool.labels import CellClass
from wbctool.onnx_model import Models, OnnxModel, start_model
from wbctool.records import Prediction
from wbctool.settings import Precision
from wbctool.stages.classify import classify_cells
from wbctool.stages.upscale import PREPARED_PX, resize_square

log = logging.getLogger(__name__)

Rgb = NDArray[np.uint8]

_BATCH = 4
_PROBES = 4  # cells that tell the layers' sensitivities, and how long a cell takes
_ROUNDS = 7
_GENERATED = 160  # at most so many cells to measure the generator on, which takes its time
_SIDES_PX = (32, 40, 48, 64)  # of what the generator is shown


@dataclass(frozen=True, slots=True)
class Limits:
    """What a copy may change at most: the share of the labels, the accuracy, and the generator's picture.

    psnr_db: of the copy's picture against the fp32 generator's. That one is 37 dB from the truth on BCCD and 29 dB on
    PBC (README): an error 42 dB down is a third of the one there, a twentieth of the other.
    """

    changed_labels: float = 0.01
    accuracy_lost: float = 0.003
    psnr_db: float = 42.0


@dataclass(frozen=True, slots=True)
class OptimisedModel(Generic[CardT]):
    """An int8 copy, not yet written. content: the ONNX file. card: its own, with its hash and what it changes.

    fp32_s, int8_s: seconds that a cell takes on one core here, a generator's of its smallest side. layers: how many
    convolutions there are.
    """

    content: bytes
    card: CardT
    fp32_s: float
    int8_s: float
    layers: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What a model gave for the cells to measure on, in their order.

    pictures: the generator's, (4 s, 4 s, 3) uint8 RGB each; none of the classifier.
    """

    predictions: tuple[Prediction, ...]
    pictures: tuple[Rgb, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trial(Generic[CardT]):
    """How to look at one kind of model. labels: of the pictures shown; None where there are none.

    show: all that is measured. probe: the output for a few pictures, float64, from which sensitivities come.
    """

    model: OnnxModel[CardT]
    content: bytes
    calibration: Sequence[Rgb]
    cells: CalibrationCells
    shown: int
    labels: tuple[CellClass, ...] | None
    show: Callable[[OnnxModel[CardT]], Shown]
    probe: Callable[[OnnxModel[CardT]], NDArray[np.float64]]


def optimise_classifier(
    models: Models, folder: Path, cells: CalibrationCells, progress: Progress, limits: Limits | None = None
) -> OptimisedModel[ClassifierCard]:
    """An int8 copy of the classifier. models: the fp32 ones of ``folder``. Raises CopyRefused, ExtraMissing."""
    rgb = turned(cells.measure) if cells.turns > 1 else cells.measure
    probes = np.stack(spread(list(cells.calibrate), _PROBES))

    def show(model: OnnxModel[ClassifierCard]) -> Shown:
        return Shown(classify_cells(rgb, model))

    trial = _Trial(
        model=models.classifier,
        content=read_model_bytes(models.classifier.card, folder),
        calibration=_batches(turned(cells.calibrate)),
        cells=cells,
        shown=len(cells.measure),
        labels=cells.labels and cells.labels * cells.turns,
        show=show,
        probe=lambda model: np.asarray(model.run(probes)[0], np.float64),
    )
    return _search(trial, limits or Limits(), progress)


def optimise_generator(
    models: Models, folder: Path, cells: CalibrationCells, progress: Progress, limits: Limits | None = None
) -> OptimisedModel[GeneratorCard]:
    """An int8 copy of the generator: its cells are reduced to 32 to 64 px, and the fp32 classifier names its pictures.

    models: the fp32 ones of ``folder``. Raises CopyRefused, ExtraMissing.
    """
    card = models.generator.card
    chosen = spread(range(len(cells.measure)), _GENERATED)
    small = reduced(cells.measure[chosen], card)
    calibration = [one[None] for one in reduced(cells.calibrate, card)]
    probes = np.stack([resize_square(one, card.min_px) for one in spread(list(cells.calibrate), _PROBES)])

    def show(model: OnnxModel[GeneratorCard]) -> Shown:
        pictures = tuple(model.run(one[None])[0][0] for one in small)
        prepared = np.stack([resize_square(picture, PREPARED_PX) for picture in pictures])
        return Shown(classify_cells(prepared, models.classifier), pictures)

    trial = _Trial(
        model=models.generator,
        content=read_model_bytes(card, folder),
        calibration=calibration,
        cells=cells,
        shown=len(small),
        labels=cells.labels and tuple(cells.labels[index] for index in chosen),
        show=show,
        probe=lambda model: np.asarray(model.run(probes)[0], np.float64),
    )
    return _search(trial, limits or Limits(), progress)


def reduced(rgb: Rgb, card: GeneratorCard) -> list[Rgb]:
    """rgb: (N, 128, 128, 3) -> N cells of the sides that the generator takes, by turns: (s, s, 3) each."""
    sides = [side for side in _SIDES_PX if card.min_px <= side <= card.max_px] or [card.min_px]
    small = []
    for index, image in enumerate(rgb):
        side = sides[index % len(sides)]
        small.append(reduce_to(image, side, side, CLEAN_SIGMA_PX * PREPARED_PX / (SCALE * side)))
    return small


def kept_numbers(layers: int) -> Iterator[int]:
    """How many layers to keep in fp32, one try after the other, up to half of them.

    >>> list(kept_numbers(20))
    [0, 1, 2, 3, 4, 6, 8, 10]
    """
    number = 0
    while number <= layers // 2:
        yield number
        step = 1 if number < 4 else 2 if number < 12 else 4
        number += step


def broken_limit(change: Int8Copy, limits: Limits) -> str | None:
    """The limit that a copy does not keep, in words; None where it keeps all."""
    if change.changed_labels > limits.changed_labels * change.pictures:
        return f"{change.changed_labels} of {change.pictures} labels change, {limits.changed_labels:.1%} may"
    if change.accuracy_fp32 is not None and change.accuracy_int8 is not None:
        lost = change.accuracy_fp32 - change.accuracy_int8
        if lost > limits.accuracy_lost:
            return f"{100 * lost:.2f} points of accuracy are lost, {100 * limits.accuracy_lost:.1f} may be"
    if change.psnr_db is not None and change.psnr_db < limits.psnr_db:
        return f"its pictures are {change.psnr_db:.1f} dB from the fp32 ones, {limits.psnr_db:.0f} are asked for"
    return None


def psnr_db(one: Sequence[Rgb], other: Sequence[Rgb]) -> float:
    """Of all pictures together, by their mean squared error; 100 where that is nearly nothing.

    >>> round(psnr_db([np.zeros((2, 2, 3), np.uint8)], [np.full((2, 2, 3), 255, np.uint8)]), 2)
    0.0
    """
    square = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(one, other, strict=True))
    error = square / sum(a.size for a in one)
    return float(10 * np.log10(255**2 / error)) if error > 255**2 * 1e-10 else 100.0


def _search(trial: _Trial[CardT], limits: Limits, progress: Progress) -> OptimisedModel[CardT]:
    """The copy with the fewest layers in fp32 that keeps the limits; the most sensitive are the first to stay."""
    card = trial.model.card
    calibrated = calibrate(trial.content, trial.calibration)
    if not calibrated.layers:
        raise CopyRefused(f"{card.file} has no convolution to compute in int8; no copy is written")

    def copy(kept: Sequence[str]) -> tuple[bytes, OnnxModel[CardT]]:
        content = quantise(calibrated, kept)
        return content, start_model(_copy_card(card, content), content)

    def sensitivity(layer: str) -> float:
        _, alone = copy([other for other in calibrated.layers if other != layer])
        return float(((trial.probe(alone) - probed) ** 2).mean())

    reference, order, problem = trial.show(trial.model), list[str](), None
    for number in kept_numbers(len(calibrated.layers)):
        if number and not order:
            probed = trial.probe(trial.model)
            layers = progress(calibrated.layers, len(calibrated.layers), f"{card.name}: how much each layer loses")
            loss = {layer: sensitivity(layer) for layer in layers}
            order = sorted(loss, key=lambda layer: -loss[layer])
        kept = tuple(order[:number])
        content, model = copy(kept)
        shown = trial.show(model)
        change = _change(trial, reference, shown, kept)
        problem = broken_limit(change, limits)
        if problem is None:
            own = model.card.model_copy(update={"copy_of": change})
            return OptimisedModel(content, own, *_seconds(trial, content, own), len(calibrated.layers))
        log.info("%s with %d of %d layers in fp32: %s", card.name, number, len(calibrated.layers), problem)
    raise CopyRefused(f"{card.file}: with {number} layers in fp32, {problem}; no int8 copy is written")


def _seconds(trial: _Trial[CardT], content: bytes, card: CardT) -> tuple[float, float]:
    """Of a cell in fp32 and in int8, on one core: the least of a few rounds, by turns, as other programs run here too.

    In sessions of their own with one thread, as a run's have: threads of another session would wait by spinning.
    """
    models = start_model(trial.model.card, trial.content, threads=1), start_model(card, content, threads=1)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for model, times in zip(models, taken, strict=True):
            start = time.perf_counter()
            trial.probe(model)
            times.append((time.perf_counter() - start) / _PROBES)
    return min(taken[0]), min(taken[1])


def _copy_card(card: CardT, content: bytes) -> CardT:
    own = {
        "name": f"{card.name}-int8",
        "file": f"{Path(card.file).stem}.int8.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "precision": Precision.INT8,
    }
    return card.model_copy(update=own)


def _change(trial: _Trial[CardT], fp32: Shown, int8: Shown, kept: tuple[str, ...]) -> Int8Copy:
    def accuracy(shown: Shown) -> float | None:
        return None if trial.labels is None else share_right(shown.predictions, trial.labels)

    return Int8Copy(
        parent_sha256=trial.model.card.sha256,
        calibrated_on=trial.cells.calibrated_on,
        measured_on=trial.cells.measured_on,
        cells=trial.shown,
        pictures=len(fp32.predictions),
        changed_labels=changed_labels(fp32.predictions, int8.predictions),
        changed_outcomes=changed_outcomes(fp32.predictions, int8.predictions),
        accuracy_fp32=accuracy(fp32),
        accuracy_int8=accuracy(int8),
        psnr_db=round(psnr_db(fp32.pictures, int8.pictures), 2) if fp32.pictures else None,
        kept_fp32=kept,
    )


def _batches(rgb: Rgb) -> list[Rgb]:
    return [rgb[start : start + _BATCH] for start in range(0, len(rgb), _BATCH)]

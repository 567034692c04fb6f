"""Copies of a model that compute in int8 or fp16: made, measured against fp32, and refused if they change much."""

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

from wbctool.cards import CardT, CopyFacts
from wbctool.choices import Precision
from wbctool.errors import CopyRefused
from wbctool.lab.calibration_cells import CalibrationCells
from wbctool.lab.half_precision import as_fp16
from wbctool.lab.precisions import changed_labels, changed_outcomes, share_right
from wbctool.lab.progress import Progress
from wbctool.lab.quantisation import calibrate, count_convolutions, quantise
from wbctool.labels import CellClass
from wbctool.onnx_model import CPU, OnnxModel, start_model
from wbctool.records import Prediction
from wbctool.wording import number_of

log = logging.getLogger(__name__)

Rgb = NDArray[np.uint8]

_ROUNDS = 7
_ON_CPU = "on one core"


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
    """A copy, not yet written. content: the ONNX file. card: its own, with its hash and what it changes.

    layers: how many convolutions there are. fp32_s, copy_s: seconds that a cell takes ``where``, a generator's of its
    smallest side.
    """

    content: bytes
    card: CardT
    layers: int
    fp32_s: float
    copy_s: float
    where: str

    @property
    def pays(self) -> bool:
        """Whether it is faster. fp16 is for a GPU, so what a CPU takes for it does not count."""
        return self.copy_s < self.fp32_s or (self.card.precision is Precision.FP16 and self.where == _ON_CPU)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a model gave for the cells to measure on, in their order.

    pictures: the generator's, (4 s, 4 s, 3) uint8 RGB each; none of the classifier.
    """

    predictions: tuple[Prediction, ...]
    pictures: tuple[Rgb, ...] = ()


@dataclass(frozen=True, slots=True)
class Trial(Generic[CardT]):
    """How to look at one kind of model. precision: of the copy. shown: how many cells it is measured on.

    labels: of the pictures shown; None where there are none. show: all that is measured. probe: the output for
    ``probes`` pictures, float64, from which sensitivities come.
    """

    model: OnnxModel[CardT]
    content: bytes
    precision: Precision
    calibration: Sequence[Rgb]
    cells: CalibrationCells
    shown: int
    labels: tuple[CellClass, ...] | None
    show: Callable[[OnnxModel[CardT]], Shown]
    probe: Callable[[OnnxModel[CardT]], NDArray[np.float64]]
    probes: int


def make_copy(trial: Trial[CardT], limits: Limits, progress: Progress) -> OptimisedModel[CardT]:
    """The copy that ``trial`` asks for, measured. Raises CopyRefused where it would break ``limits``, ExtraMissing."""
    if trial.precision is Precision.FP16:
        return _halved(trial, limits)
    return _search(trial, limits, progress)


def _halved(trial: Trial[CardT], limits: Limits) -> OptimisedModel[CardT]:
    """All of it in fp16, if that keeps the limits."""
    content = as_fp16(trial.content)
    model = _start_copy(trial, content)
    change = _change(trial, trial.show(trial.model), trial.show(model), ())
    if problem := broken_limit(change, limits):
        raise CopyRefused(f"{trial.model.card.file}: in fp16, {problem}; no copy is written")
    return _measured(trial, content, model.card, change, count_convolutions(content))


def _search(trial: Trial[CardT], limits: Limits, progress: Progress) -> OptimisedModel[CardT]:
    """The copy with the fewest layers in fp32 that keeps the limits; the most sensitive are the first to stay."""
    card = trial.model.card
    calibrated = calibrate(trial.content, trial.calibration)
    if not calibrated.layers:
        raise CopyRefused(f"{card.file} has no convolutions to compute in int8; no copy is written")

    def copy(kept: Sequence[str]) -> tuple[bytes, OnnxModel[CardT]]:
        content = quantise(calibrated, kept)
        return content, _start_copy(trial, content)

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
            return _measured(trial, content, model.card, change, len(calibrated.layers))
        log.info("%s with %d of %d layers in fp32: %s", card.name, number, len(calibrated.layers), problem)
    raise CopyRefused(f"{card.file}: with {number_of(number, 'layer')} in fp32, {problem}; no int8 copy is written")


def _measured(
    trial: Trial[CardT], content: bytes, card: CardT, change: CopyFacts, layers: int
) -> OptimisedModel[CardT]:
    own = card.model_copy(update={"copy_of": change})
    where = _ON_CPU if trial.model.provider == CPU else "on the GPU"
    return OptimisedModel(content, own, layers, *_seconds(trial, content, own), where)


def _seconds(trial: Trial[CardT], content: bytes, card: CardT) -> tuple[float, float]:
    """Of a cell in fp32 and in the copy: the least of a few rounds, by turns, as other programs run here too.

    In sessions of their own with one thread, as a run's have: threads of another session would wait by spinning.
    """
    provider = trial.model.provider
    models = start_model(trial.model.card, trial.content, provider, 1), start_model(card, content, provider, 1)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for model, times in zip(models, taken, strict=True):
            start = time.perf_counter()
            trial.probe(model)
            times.append((time.perf_counter() - start) / trial.probes)
    return min(taken[0]), min(taken[1])


def _start_copy(trial: Trial[CardT], content: bytes) -> OnnxModel[CardT]:
    card, precision = trial.model.card, trial.precision
    own = {
        "name": f"{card.name}-{precision}",
        "file": f"{Path(card.file).stem}.{precision}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "precision": precision,
    }
    return start_model(card.model_copy(update=own), content, trial.model.provider)


def _change(trial: Trial[CardT], fp32: Shown, copy: Shown, kept: tuple[str, ...]) -> CopyFacts:
    def accuracy(shown: Shown) -> float | None:
        return None if trial.labels is None else share_right(shown.predictions, trial.labels)

    return CopyFacts(
        parent_sha256=trial.model.card.sha256,
        calibrated_on=trial.cells.calibrated_on if trial.precision is Precision.INT8 else "",
        measured_on=trial.cells.measured_on,
        cells=trial.shown,
        pictures=len(fp32.predictions),
        changed_labels=changed_labels(fp32.predictions, copy.predictions),
        changed_outcomes=changed_outcomes(fp32.predictions, copy.predictions),
        accuracy_fp32=accuracy(fp32),
        accuracy_copy=accuracy(copy),
        psnr_db=round(psnr_db(fp32.pictures, copy.pictures), 2) if fp32.pictures else None,
        kept_fp32=kept,
    )


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


def broken_limit(change: CopyFacts, limits: Limits) -> str | None:
    """The limit that a copy does not keep, in words; None where it keeps all."""
    if change.changed_labels > limits.changed_labels * change.pictures:
        return (
            f"{change.changed_labels} of {change.pictures} labels change, at most {limits.changed_labels:.1%} allowed"
        )
    if change.accuracy_fp32 is not None and change.accuracy_copy is not None:
        lost = change.accuracy_fp32 - change.accuracy_copy
        if lost > limits.accuracy_lost:
            return f"accuracy falls by {100 * lost:.2f} points, at most {100 * limits.accuracy_lost:.1f} allowed"
    if change.psnr_db is not None and change.psnr_db < limits.psnr_db:
        return f"its images are {change.psnr_db:.1f} dB from the fp32 ones, at least {limits.psnr_db:.0f} required"
    return None


def psnr_db(one: Sequence[Rgb], other: Sequence[Rgb]) -> float:
    """Of all pictures together, by their mean squared error; 100 where that is nearly nothing.

    >>> round(psnr_db([np.zeros((2, 2, 3), np.uint8)], [np.full((2, 2, 3), 255, np.uint8)]), 2)
    0.0
    """
    square = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(one, other, strict=True))
    error = square / sum(a.size for a in one)
    return float(10 * np.log10(255**2 / error)) if error > 255**2 * 1e-10 else 100.0

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

from wbctool.enums import Precision
from wbctool.errors import QuantizationRejected
from wbctool.evaluation.metrics import psnr_db
from wbctool.evaluation.precision_drift import accuracy, count_changed_labels, count_changed_outcomes
from wbctool.inference.model_card import CardT, QuantizationInfo
from wbctool.inference.session import CPU, OnnxModel, create_session
from wbctool.labels import CellClass
from wbctool.quantization.calibration_data import CalibrationData
from wbctool.quantization.fp16 import convert_to_fp16
from wbctool.quantization.int8 import calibrate_ranges, count_convolutions, quantize
from wbctool.text import pluralize
from wbctool.types.cells import Prediction
from wbctool.types.progress import Progress

log = logging.getLogger(__name__)

Rgb = NDArray[np.uint8]

_TIMING_ROUNDS = 7
_ON_ONE_CORE = "on one core"


@dataclass(frozen=True, slots=True)
class QuantizationTolerance:
    """What a copy may change at most: the share of the labels, the accuracy, and the generator's picture.

    min_psnr_db: of the copy's picture against the fp32 generator's. That one is 37 dB from the truth on BCCD and 29 dB on
    PBC (README): an error 42 dB down is a third of the one there, a twentieth of the other.
    """

    max_changed_labels: float = 0.01
    max_accuracy_loss: float = 0.003
    min_psnr_db: float = 42.0


@dataclass(frozen=True, slots=True)
class QuantizedModel(Generic[CardT]):
    """A copy, not yet written. content: the ONNX file. card: its own, with its hash and what it changes.

    n_layers: how many convolutions there are. fp32_s, quantized_s: seconds that a cell takes ``timed_on``, a generator's of its
    smallest side.
    """

    content: bytes
    card: CardT
    n_layers: int
    fp32_s: float
    quantized_s: float
    timed_on: str

    @property
    def is_faster(self) -> bool:
        """Whether it is faster. fp16 is for a GPU, so what a CPU takes for it does not count."""
        return self.quantized_s < self.fp32_s or (
            self.card.precision is Precision.FP16 and self.timed_on == _ON_ONE_CORE
        )


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """What a model gave for the cells to measure on, in their order.

    images: the generator's, (4 s, 4 s, 3) uint8 RGB each; none of the classifier.
    """

    predictions: tuple[Prediction, ...]
    images: tuple[Rgb, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantizationCase(Generic[CardT]):
    """How to look at one kind of model. precision: of the copy. n_shown: how many cells it is measured on.

    labels: of the pictures shown; None where there are none. evaluate: all that is measured. probe: the output for
    ``n_probes`` pictures, float64, from which sensitivities come.
    """

    model: OnnxModel[CardT]
    content: bytes
    precision: Precision
    calibration_batches: Sequence[Rgb]
    data: CalibrationData
    n_shown: int
    labels: tuple[CellClass, ...] | None
    evaluate: Callable[[OnnxModel[CardT]], ModelOutputs]
    probe: Callable[[OnnxModel[CardT]], NDArray[np.float64]]
    n_probes: int


def quantize_model(
    case: QuantizationCase[CardT], tolerance: QuantizationTolerance, progress: Progress
) -> QuantizedModel[CardT]:
    """The copy that ``case`` asks for, measured. Raises QuantizationRejected where it would break ``tolerance``, MissingDependency."""
    if case.precision is Precision.FP16:
        return _to_fp16(case, tolerance)
    return _search_int8(case, tolerance, progress)


def _to_fp16(case: QuantizationCase[CardT], tolerance: QuantizationTolerance) -> QuantizedModel[CardT]:
    """All of it in fp16, if that keeps the limits."""
    content = convert_to_fp16(case.content)
    model = _create_quantized_session(case, content)
    change = _measure_change(case, case.evaluate(case.model), case.evaluate(model), ())
    if problem := violated_tolerance(change, tolerance):
        raise QuantizationRejected(f"{case.model.card.file}: in fp16, {problem}; no copy is written")
    return _make_result(case, content, model.card, change, count_convolutions(content))


def _search_int8(
    case: QuantizationCase[CardT], tolerance: QuantizationTolerance, progress: Progress
) -> QuantizedModel[CardT]:
    """The copy with the fewest layers in fp32 that keeps the limits; the most sensitive are the first to stay."""
    card = case.model.card
    calibrated = calibrate_ranges(case.content, case.calibration_batches)
    if not calibrated.layers:
        raise QuantizationRejected(f"{card.file} has no convolutions to compute in int8; no copy is written")

    def quantize_keeping(fp32_layers: Sequence[str]) -> tuple[bytes, OnnxModel[CardT]]:
        content = quantize(calibrated, fp32_layers)
        return content, _create_quantized_session(case, content)

    def measure_sensitivity(layer: str) -> float:
        _, one_layer_model = quantize_keeping([other for other in calibrated.layers if other != layer])
        return float(((case.probe(one_layer_model) - reference_probe) ** 2).mean())

    reference, order, problem = case.evaluate(case.model), list[str](), None
    for number in fp32_layer_schedule(len(calibrated.layers)):
        if number and not order:
            reference_probe = case.probe(case.model)
            layers = progress(calibrated.layers, len(calibrated.layers), f"{card.name}: how much each layer loses")
            loss = {layer: measure_sensitivity(layer) for layer in layers}
            order = sorted(loss, key=lambda layer: -loss[layer])
        fp32_layers = tuple(order[:number])
        content, model = quantize_keeping(fp32_layers)
        outputs = case.evaluate(model)
        change = _measure_change(case, reference, outputs, fp32_layers)
        problem = violated_tolerance(change, tolerance)
        if problem is None:
            return _make_result(case, content, model.card, change, len(calibrated.layers))
        log.info("%s with %d of %d layers in fp32: %s", card.name, number, len(calibrated.layers), problem)
    raise QuantizationRejected(
        f"{card.file}: with {pluralize(number, 'layer')} in fp32, {problem}; no int8 copy is written"
    )


def _make_result(
    case: QuantizationCase[CardT], content: bytes, card: CardT, change: QuantizationInfo, n_layers: int
) -> QuantizedModel[CardT]:
    quantized_card = card.model_copy(update={"quantized_from": change})
    timed_on = _ON_ONE_CORE if case.model.provider == CPU else "on the GPU"
    return QuantizedModel(content, quantized_card, n_layers, *_time_models(case, content, quantized_card), timed_on)


def _time_models(case: QuantizationCase[CardT], content: bytes, card: CardT) -> tuple[float, float]:
    """Of a cell in fp32 and in the copy: the least of a few rounds, by turns, as other programs run here too.

    In sessions of their own with one thread, as a run's have: threads of another session would wait by spinning.
    """
    provider = case.model.provider
    models = create_session(case.model.card, case.content, provider, 1), create_session(card, content, provider, 1)
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMING_ROUNDS):
        for model, times in zip(models, durations, strict=True):
            start = time.perf_counter()
            case.probe(model)
            times.append((time.perf_counter() - start) / case.n_probes)
    return min(durations[0]), min(durations[1])


def _create_quantized_session(case: QuantizationCase[CardT], content: bytes) -> OnnxModel[CardT]:
    card, precision = case.model.card, case.precision
    update = {
        "name": f"{card.name}-{precision}",
        "file": f"{Path(card.file).stem}.{precision}.onnx",
        "sha256": hashlib.sha256(content).hexdigest(),
        "precision": precision,
    }
    return create_session(card.model_copy(update=update), content, case.model.provider)


def _measure_change(
    case: QuantizationCase[CardT], fp32: ModelOutputs, quantized: ModelOutputs, fp32_layers: tuple[str, ...]
) -> QuantizationInfo:
    def accuracy_or_none(outputs: ModelOutputs) -> float | None:
        return None if case.labels is None else accuracy(outputs.predictions, case.labels)

    return QuantizationInfo(
        source_sha256=case.model.card.sha256,
        calibrated_on=case.data.calibrated_on if case.precision is Precision.INT8 else "",
        measured_on=case.data.measured_on,
        cells=case.n_shown,
        images=len(fp32.predictions),
        changed_labels=count_changed_labels(fp32.predictions, quantized.predictions),
        changed_outcomes=count_changed_outcomes(fp32.predictions, quantized.predictions),
        accuracy_fp32=accuracy_or_none(fp32),
        accuracy_quantized=accuracy_or_none(quantized),
        psnr_db=round(psnr_db(fp32.images, quantized.images), 2) if fp32.images else None,
        fp32_layers=fp32_layers,
    )


def fp32_layer_schedule(n_layers: int) -> Iterator[int]:
    """How many layers to keep in fp32, one try after the other, up to half of them.

    >>> list(fp32_layer_schedule(20))
    [0, 1, 2, 3, 4, 6, 8, 10]
    """
    number = 0
    while number <= n_layers // 2:
        yield number
        step = 1 if number < 4 else 2 if number < 12 else 4
        number += step


def violated_tolerance(change: QuantizationInfo, tolerance: QuantizationTolerance) -> str | None:
    """The limit that a copy does not keep, in words; None where it keeps all."""
    if change.changed_labels > tolerance.max_changed_labels * change.images:
        return f"{change.changed_labels} of {change.images} labels change, at most {tolerance.max_changed_labels:.1%} allowed"
    if change.accuracy_fp32 is not None and change.accuracy_quantized is not None:
        accuracy_loss = change.accuracy_fp32 - change.accuracy_quantized
        if accuracy_loss > tolerance.max_accuracy_loss:
            return f"accuracy falls by {100 * accuracy_loss:.2f} points, at most {100 * tolerance.max_accuracy_loss:.1f} allowed"
    if change.psnr_db is not None and change.psnr_db < tolerance.min_psnr_db:
        return (
            f"its images are {change.psnr_db:.1f} dB from the fp32 ones, at least {tolerance.min_psnr_db:.0f} required"
        )
    return None

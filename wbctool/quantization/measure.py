"""The search for a quantized copy of a model that changes little, measured against fp32."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from wbctool.enums import Precision
from wbctool.errors import QuantizationRejected
from wbctool.evaluation.metrics import psnr_db
from wbctool.evaluation.precision_drift import accuracy, count_changed_labels, count_changed_outcomes
from wbctool.inference.model_card import CardT, quantized_file
from wbctool.inference.quantization_info import QuantizationInfo
from wbctool.inference.session import CPU, OnnxModel, create_session
from wbctool.labels import CellClass
from wbctool.quantization.calibration_data import CalibrationData
from wbctool.quantization.fp16 import convert_to_fp16
from wbctool.quantization.int8 import calibrate_ranges, count_convolutions, quantize
from wbctool.text import pluralize
from wbctool.types.arrays import Rgb
from wbctool.types.cells import Prediction
from wbctool.types.progress import Progress

log = logging.getLogger(__name__)


_TIMING_ROUNDS = 7
_ON_ONE_CORE = "on one core"


@dataclass(frozen=True, slots=True)
class QuantizationTolerance:
    """How much a quantized copy may change.

    Attributes:
        max_changed_labels: Largest fraction of images whose label changes, in [0, 1].
        max_accuracy_loss: Largest loss of accuracy, as a fraction.
        min_psnr_db: Smallest PSNR of the copy's images against the fp32 generator's, in decibels. The fp32 images have
            37 dB against the truth on BCCD and 29 dB on PBC (docs/models.md): an error at 42 dB is a third and a
            twentieth of the error that is there anyway.
    """

    max_changed_labels: float = 0.01
    max_accuracy_loss: float = 0.003
    min_psnr_db: float = 42.0


@dataclass(frozen=True, slots=True)
class QuantizedModel(Generic[CardT]):
    """A quantized copy that is not written yet.

    Attributes:
        content: The ONNX file.
        card: The copy's card, with its hash and what it changes.
        n_layers: Number of convolutions.
        fp32_s: Seconds a cell takes in fp32; for a generator, a cell of its smallest side.
        quantized_s: Seconds the same cell takes in the copy.
        timed_on: What the times were measured on.
    """

    content: bytes
    card: CardT
    n_layers: int
    fp32_s: float
    quantized_s: float
    timed_on: str

    @property
    def is_faster(self) -> bool:
        """Whether the copy is faster. fp16 is meant for a GPU, so its time on a CPU does not count."""
        return self.quantized_s < self.fp32_s or (
            self.card.precision is Precision.FP16 and self.timed_on == _ON_ONE_CORE
        )


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """The outputs of a model for the validation cells, in their order.

    Attributes:
        predictions: Predictions of the classifier.
        images: Images of the generator, (4s, 4s, 3) uint8 RGB each; empty if the classifier is measured.
    """

    predictions: tuple[Prediction, ...]
    images: tuple[Rgb, ...] = ()


@dataclass(frozen=True, slots=True)
class QuantizationCase(Generic[CardT]):
    """A model to quantize, and how to measure its copies.

    Attributes:
        model: The fp32 model.
        content: Its ONNX file.
        precision: Precision of the copy.
        calibration_batches: (N, H, W, 3) uint8 RGB each.
        data: The cells, described for the card.
        n_shown: Number of cells that copies are measured on.
        labels: The true class of each image shown; None if there are no labels.
        evaluate: Computes the outputs for all validation cells.
        probes: A few cells for sensitivities and times, (N, H, W, 3) uint8 RGB.
        probed_output: The name of the output that is computed for them.
        clock: Returns the time in seconds.
    """

    model: OnnxModel[CardT]
    content: bytes
    precision: Precision
    calibration_batches: Sequence[Rgb]
    data: CalibrationData
    n_shown: int
    labels: tuple[CellClass, ...] | None
    evaluate: Callable[[OnnxModel[CardT]], ModelOutputs]
    probes: Rgb
    probed_output: str
    clock: Callable[[], float] = time.perf_counter

    def probe(self, model: OnnxModel[CardT]) -> NDArray[np.float64]:
        """Compute a model's output for the probes."""
        return np.asarray(model.run(self.probes, self.probed_output)[0], np.float64)


def quantize_model(
    case: QuantizationCase[CardT], tolerance: QuantizationTolerance, progress: Progress
) -> QuantizedModel[CardT]:
    """Make and measure a quantized copy.

    Args:
        case: The model, and how to measure its copies.
        tolerance: How much the copy may change.
        progress: Wraps the layers whose sensitivity is measured.

    Raises:
        QuantizationRejected: Every copy would change too much.
        MissingDependency: The extra ``optimize`` is not installed.
    """
    if case.precision is Precision.FP16:
        return _to_fp16(case, tolerance)
    return _search_int8(case, tolerance, progress)


def _to_fp16(case: QuantizationCase[CardT], tolerance: QuantizationTolerance) -> QuantizedModel[CardT]:
    """Convert the whole model to fp16, if the change is tolerable."""
    content = convert_to_fp16(case.content)
    model = _create_quantized_session(case, content)
    change = _measure_change(case, case.evaluate(case.model), case.evaluate(model), ())
    if problem := violated_tolerance(change, tolerance):
        raise QuantizationRejected(f"{case.model.card.file}: in fp16, {problem}; no copy is written")
    return _make_result(case, content, model.card, change, count_convolutions(content))


def _search_int8(
    case: QuantizationCase[CardT], tolerance: QuantizationTolerance, progress: Progress
) -> QuantizedModel[CardT]:
    """Return the tolerable copy with the fewest layers in fp32; the most sensitive layers keep fp32 first."""
    card = case.model.card
    calibrated = calibrate_ranges(case.content, case.calibration_batches)
    if not calibrated.layers:
        raise QuantizationRejected(f"{card.file} has no convolutions to compute in int8; no copy is written")

    def quantize_keeping(fp32_layers: Sequence[str]) -> tuple[bytes, OnnxModel[CardT]]:
        """Quantize all layers but these."""
        content = quantize(calibrated, fp32_layers)
        return content, _create_quantized_session(case, content)

    def measure_sensitivity(layer: str) -> float:
        """Return the mean squared error of the output if only this layer is quantized."""
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
    """Time a tolerable copy and complete its card."""
    quantized_card = card.model_copy(update={"quantized_from": change})
    timed_on = _ON_ONE_CORE if case.model.provider == CPU else "on the GPU"
    return QuantizedModel(content, quantized_card, n_layers, *_time_models(case, content, quantized_card), timed_on)


def _time_models(case: QuantizationCase[CardT], content: bytes, card: CardT) -> tuple[float, float]:
    """Return the seconds a cell takes in fp32 and in the copy, each the fastest of a few rounds."""
    # New sessions with one thread, as in a run: threads of another session would spin while they wait.
    provider = case.model.provider
    models = create_session(case.model.card, case.content, provider, 1), create_session(card, content, provider, 1)
    durations: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMING_ROUNDS):
        for model, times in zip(models, durations, strict=True):
            start = case.clock()
            case.probe(model)
            times.append((case.clock() - start) / len(case.probes))
    return min(durations[0]), min(durations[1])


def _create_quantized_session(case: QuantizationCase[CardT], content: bytes) -> OnnxModel[CardT]:
    """Load a copy with a card of its own."""
    card, precision = case.model.card, case.precision
    update = {
        "name": f"{card.name}-{precision}",
        "file": quantized_file(card, precision),
        "sha256": hashlib.sha256(content).hexdigest(),
        "precision": precision,
    }
    return create_session(card.model_copy(update=update), content, case.model.provider)


def _measure_change(
    case: QuantizationCase[CardT], fp32: ModelOutputs, quantized: ModelOutputs, fp32_layers: tuple[str, ...]
) -> QuantizationInfo:
    """Compare the outputs of a copy with those of the fp32 model."""

    def accuracy_or_none(outputs: ModelOutputs) -> float | None:
        """Return the accuracy; None without labels."""
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
    """Yield how many layers to keep in fp32, one attempt after the other, up to half of them.

    >>> list(fp32_layer_schedule(20))
    [0, 1, 2, 3, 4, 6, 8, 10]
    """
    number = 0
    while number <= n_layers // 2:
        yield number
        step = 1 if number < 4 else 2 if number < 12 else 4
        number += step


def violated_tolerance(change: QuantizationInfo, tolerance: QuantizationTolerance) -> str | None:
    """Describe the limit that a copy exceeds; None if it exceeds none."""
    if change.changed_labels > tolerance.max_changed_labels * change.images:
        limit = f"at most {tolerance.max_changed_labels:.1%} allowed"
        return f"{change.changed_labels} of {change.images} labels change, {limit}"
    if change.accuracy_fp32 is not None and change.accuracy_quantized is not None:
        accuracy_loss = change.accuracy_fp32 - change.accuracy_quantized
        if accuracy_loss > tolerance.max_accuracy_loss:
            limit = f"at most {100 * tolerance.max_accuracy_loss:.1f} allowed"
            return f"accuracy falls by {100 * accuracy_loss:.2f} points, {limit}"
    if change.psnr_db is not None and change.psnr_db < tolerance.min_psnr_db:
        return (
            f"its images are {change.psnr_db:.1f} dB from the fp32 ones, at least {tolerance.min_psnr_db:.0f} required"
        )
    return None

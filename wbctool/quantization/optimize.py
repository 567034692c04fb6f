"""Quantized copies of the classifiers and the generator, for `wbctool models optimize`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wbctool.datasets.labelled import evenly_spaced
from wbctool.enums import Precision
from wbctool.evaluation.super_resolution import DEGRADATION_SIGMA_PX, SCALE, degrade_to
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import Models
from wbctool.inference.model_card import CardT, GeneratorCard
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import LOGITS, SUPER_RESOLVED, OnnxModel
from wbctool.quantization.calibration_data import CalibrationData, flip_augment
from wbctool.quantization.measure import (
    ModelOutputs,
    QuantizationCase,
    QuantizationTolerance,
    QuantizedModel,
    quantize_model,
)
from wbctool.stages.classify import classify_cells
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool.types.arrays import Rgb
from wbctool.types.progress import Progress

_BATCH = 4
_MIN_PROBES = 4  # cells that measure the layers' sensitivities and the time a cell takes
_MAX_GENERATOR_CELLS = 160  # to measure the generator on, which is slow
_GENERATOR_SIDES_PX = (32, 40, 48, 64)  # of the generator's input


def optimize_classifier(
    model: OnnxModel[CardT],
    folder: Path,
    data: CalibrationData,
    progress: Progress,
    precision: Precision,
    tolerance: QuantizationTolerance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> QuantizedModel[CardT]:
    """Quantize a reader: the VGG19 or the compact one.

    Args:
        model: The fp32 reader.
        folder: The folder of the models.
        data: Cells to calibrate with and to measure on.
        progress: Wraps the items of slow loops.
        precision: int8 or fp16.
        tolerance: How much the copy may change; the default tolerance if None.
        clock: Returns the time in seconds.

    Raises:
        QuantizationRejected: Every copy would change too much.
        MissingDependency: The extra ``optimize`` is not installed.
    """
    rgb = flip_augment(data.validation_crops) if data.n_flips > 1 else data.validation_crops

    def evaluate(model: OnnxModel[Any]) -> ModelOutputs:
        return ModelOutputs(classify_cells(rgb, model))

    case = QuantizationCase(
        model=model,
        content=read_model_bytes(model.card, folder),
        precision=precision,
        calibration_batches=_split_batches(flip_augment(data.calibration_crops)),
        data=data,
        n_shown=len(data.validation_crops),
        labels=data.labels and data.labels * data.n_flips,
        evaluate=evaluate,
        probes=np.stack(_select_probes(data, model)),
        probed_output=LOGITS,
        clock=clock,
    )
    return quantize_model(case, tolerance or QuantizationTolerance(), progress)


def optimize_generator(
    models: Models,
    folder: Path,
    data: CalibrationData,
    progress: Progress,
    precision: Precision,
    tolerance: QuantizationTolerance | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> QuantizedModel[GeneratorCard]:
    """Quantize the generator, measured on reduced cells whose enlarged images the fp32 classifier classifies.

    Args:
        models: The fp32 models of ``folder``.
        folder: The folder of the models.
        data: Cells to calibrate with and to measure on.
        progress: Wraps the items of slow loops.
        precision: int8 or fp16.
        tolerance: How much the copy may change; the default tolerance if None.
        clock: Returns the time in seconds.

    Raises:
        QuantizationRejected: Every copy would change too much.
        MissingDependency: The extra ``optimize`` is not installed.
    """
    card = models.generator.card
    indices = evenly_spaced(range(len(data.validation_crops)), _MAX_GENERATOR_CELLS)
    small = downscaled_inputs(data.validation_crops[indices], card)
    calibration = [image[None] for image in downscaled_inputs(data.calibration_crops, card)]

    def evaluate(model: OnnxModel[GeneratorCard]) -> ModelOutputs:
        images = tuple(model.run(image[None], SUPER_RESOLVED)[0][0] for image in small)
        prepared = np.stack([resize_square(image, CLASSIFIER_INPUT_PX) for image in images])
        return ModelOutputs(classify_cells(prepared, models.classifier), images)

    case = QuantizationCase(
        model=models.generator,
        content=read_model_bytes(card, folder),
        precision=precision,
        calibration_batches=calibration,
        data=data,
        n_shown=len(small),
        labels=data.labels and tuple(data.labels[index] for index in indices),
        evaluate=evaluate,
        probes=np.stack([resize_square(crop, card.min_px) for crop in _select_probes(data, models.generator)]),
        probed_output=SUPER_RESOLVED,
        clock=clock,
    )
    return quantize_model(case, tolerance or QuantizationTolerance(), progress)


def downscaled_inputs(rgb: Rgb, card: GeneratorCard) -> list[Rgb]:
    """Reduce cells to the sides that the generator takes, in turn.

    Args:
        rgb: (N, 128, 128, 3) uint8 RGB.
        card: The generator's card, which has its smallest and its largest input.

    Returns:
        N images (s, s, 3) uint8 RGB.
    """
    sides = [side for side in _GENERATOR_SIDES_PX if card.min_px <= side <= card.max_px] or [card.min_px]
    small = []
    for index, image in enumerate(rgb):
        side = sides[index % len(sides)]
        small.append(degrade_to(image, side, side, DEGRADATION_SIGMA_PX * CLASSIFIER_INPUT_PX / (SCALE * side)))
    return small


def _select_probes(data: CalibrationData, model: OnnxModel[CardT]) -> list[Rgb]:
    """Return enough cells to fill a batch, as a GPU takes as long for a batch with fewer cells."""
    chosen = evenly_spaced(list(data.calibration_crops), _MIN_PROBES)
    return [chosen[index % len(chosen)] for index in range(max(_MIN_PROBES, model.batch_size))]


def _split_batches(rgb: Rgb) -> list[Rgb]:
    """Split crops into batches."""
    return [rgb[start : start + _BATCH] for start in range(0, len(rgb), _BATCH)]

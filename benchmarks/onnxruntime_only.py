"""`python -m benchmarks.onnxruntime_only SLIDES --precision fp32|int8|fp16 --device cpu|cuda`: ONNX Runtime alone.

Detects and preprocesses the cells of SLIDES with wbctool's stages, untimed, then times only the classifier on them:
the lower bound of a run's time. Prints a JSON line: cells, seconds, and the fastest way of calling.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from wbctool.enums import Device, Precision, SuperResolve
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import (
    ClassifierCard,
    default_models_dir,
    load_fp32_card,
    quantized_card_path,
    read_card,
    read_model_bytes,
)
from wbctool.inference.session import CPU, CUDA, cuda_unavailable_reason, provider_options
from wbctool.stages.detect import detect_cells
from wbctool.stages.preprocess import preprocess_crops

_N_TRIAL_CELLS = 32  # cells for choosing the fastest way of calling
_BATCH_SIZES = {CPU: (1, 8, 32), CUDA: (8, 16, 32)}


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--device", type=Device, default=Device.CPU)
    args = parser.parse_args()
    cells = preprocess_cells(args.slides)
    folder = default_models_dir()
    is_fp32 = args.precision is Precision.FP32
    card = (
        load_fp32_card(folder, ClassifierCard)
        if is_fp32
        else read_card(quantized_card_path(folder, ClassifierCard, args.precision))
    )
    if args.device is not Device.CPU and (problem := cuda_unavailable_reason(card, read_model_bytes(card, folder))):
        raise SystemExit(f"no session runs on CUDA: {problem}")
    provider = CPU if args.device is Device.CPU else CUDA
    configs = [(rows, threads) for rows in _BATCH_SIZES[provider] for threads in (0, 1)]
    seconds = {
        way: time_classifier(folder / card.file, cells[:_N_TRIAL_CELLS], provider, args.precision, *way)
        for way in configs
    }
    batch_size, threads = min(seconds, key=lambda way: seconds[way])
    best = time_classifier(folder / card.file, cells, provider, args.precision, batch_size, threads)
    description = f"{batch_size} cells a call, " + ("all cores on one call" if threads == 0 else "a call on each core")
    print(json.dumps({"cells": len(cells), "seconds": best, "description": description}))


def preprocess_cells(slides: Path) -> np.ndarray:
    """Detect and preprocess the cells of all slides as a run does; identical fields are processed once.

    Args:
        slides: Folder of slides with JPEG fields.

    Returns:
        (N, 128, 128, 3) uint8 RGB.
    """
    models = load_models(default_models_dir(), Device.CPU, Precision.FP32)
    cached: dict[bytes, np.ndarray] = {}
    batches = []
    for path in sorted(slides.rglob("*.jpg")):
        content = path.read_bytes()
        if content not in cached:
            field = read_field(path)
            boxes = [detection.box for detection in detect_cells(field, models.detector)]
            crops = crop_cells(field, boxes, models.classifier.card.crop_margin)
            cached[content] = preprocess_crops(crops, models.generator, SuperResolve.AUTO).rgb
        batches.append(cached[content])
    return np.concatenate(batches)


def time_classifier(
    model: Path, cells: np.ndarray, provider: str, precision: Precision, batch_size: int, threads: int
) -> float:
    """Time the classifier.

    Args:
        model: The ONNX file.
        cells: (N, 128, 128, 3) uint8 RGB.
        provider: Execution provider.
        precision: Of the model.
        batch_size: Cells per call.
        threads: 0 makes one call at a time on all cores, 1 one call on each core in parallel.

    Returns:
        Seconds for all cells.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    providers = [(provider, provider_options(provider, precision))]
    session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
    batches = [
        {session.get_inputs()[0].name: cells[first : first + batch_size]} for first in range(0, len(cells), batch_size)
    ]
    session.run(None, batches[0])
    start = time.perf_counter()
    if threads == 0:
        for batch in batches:
            session.run(None, batch)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(session.run, None), batches))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

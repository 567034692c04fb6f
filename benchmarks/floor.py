"""ONNX Runtime alone on ready-made batches: what naming the cells costs at the least, with nothing around it.

`python -m benchmarks.floor SLIDES --precision fp32|int8|fp16 --device cpu|cuda`: finds and prepares the cells of SLIDES
with wbctool's own stages, untimed, then times the classifier on them, and prints a JSON line: cells, seconds, and how
it was the fastest.
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

from wbctool.cards import ClassifierCard, copy_path, default_models_dir, plain_card, read_card, read_model_bytes
from wbctool.choices import Device, Precision, SuperResolve
from wbctool.models import load_models
from wbctool.onnx_model import CPU, CUDA, cuda_problem, provider_options
from wbctool.stages.crop import crop_cells
from wbctool.stages.detect import detect_cells
from wbctool.stages.images import read_field
from wbctool.stages.upscale import prepare_crops

_TRIAL = 32  # cells that the ways are compared on
_ROWS = {CPU: (1, 8, 32), CUDA: (8, 16, 32)}


def main() -> None:
    """Read the options, measure, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("slides", type=Path)
    options.add_argument("--precision", type=Precision, default=Precision.FP32)
    options.add_argument("--device", type=Device, default=Device.CPU)
    chosen = options.parse_args()
    cells = prepared_cells(chosen.slides)
    folder = default_models_dir()
    plain = chosen.precision is Precision.FP32
    card = (
        plain_card(folder, ClassifierCard) if plain else read_card(copy_path(folder, ClassifierCard, chosen.precision))
    )
    if chosen.device is not Device.CPU and (problem := cuda_problem(card, read_model_bytes(card, folder))):
        raise SystemExit(f"no session runs on CUDA: {problem}")
    provider = CPU if chosen.device is Device.CPU else CUDA
    ways = [(rows, threads) for rows in _ROWS[provider] for threads in (0, 1)]
    seconds = {way: timed(folder / card.file, cells[:_TRIAL], provider, chosen.precision, *way) for way in ways}
    rows, threads = min(seconds, key=lambda way: seconds[way])
    best = timed(folder / card.file, cells, provider, chosen.precision, rows, threads)
    how = f"{rows} cells a call, " + ("all cores on one call" if threads == 0 else "a call on each core")
    print(json.dumps({"cells": len(cells), "seconds": best, "how": how}))


def prepared_cells(slides: Path) -> np.ndarray:
    """(N, 128, 128, 3) uint8 RGB, as a run prepares them. A field that is there many times is looked at once."""
    models = load_models(default_models_dir(), Device.CPU, Precision.FP32)
    known: dict[bytes, np.ndarray] = {}
    parts = []
    for path in sorted(slides.rglob("*.jpg")):
        content = path.read_bytes()
        if content not in known:
            field = read_field(path)
            boxes = [found.box for found in detect_cells(field, models.detector)]
            crops = crop_cells(field, boxes, models.classifier.card.crop_margin)
            known[content] = prepare_crops(crops, models.generator, SuperResolve.AUTO).rgb
        parts.append(known[content])
    return np.concatenate(parts)


def timed(model: Path, cells: np.ndarray, provider: str, precision: Precision, rows: int, threads: int) -> float:
    """Seconds for all cells. threads: 0: one call at a time, on all cores; 1: a call on each core, side by side."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    chosen = [(provider, provider_options(provider, precision))]
    session = ort.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    batches = [{session.get_inputs()[0].name: cells[at : at + rows]} for at in range(0, len(cells), rows)]
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

"""`python -m benchmarks.onnxruntime_only SLIDES --precision fp32|int8|fp16 --device cpu|cuda`: ONNX Runtime alone.

A run over SLIDES is made first, untimed, that notes what its models are given. Then these arrays go through detector,
generator and both classifiers again, in the same batches and with as many threads, and nothing else happens: the floor
of a run's time. Prints a JSON line: cells, wall-clock seconds, and the processor's seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

import wbctool
from wbctool.enums import Device, Precision, Readers
from wbctool.inference.loading import Models
from wbctool.inference.session import OnnxModel
from wbctool.pipeline.bound_stages import bind_stages
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.discovery import find_slides
from wbctool.pipeline.pipeline import Pipeline, ThreadPools, process_fields
from wbctool.settings import RunSettings

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a model.

    Attributes:
        model: The model.
        batch: (N, H, W, 3) uint8 RGB.
        outputs: The names of the outputs asked for.
    """

    model: OnnxModel[Any]
    batch: np.ndarray
    outputs: tuple[str, ...]


class RecordingModel:
    """A model that notes its calls. The same array is computed and kept once, as the bench copies its fields.

    Args:
        model: The model.
        calls: Each call is added to these.
    """

    def __init__(self, model: OnnxModel[Any], calls: list[Call]) -> None:
        self._model, self._calls, self._lock = model, calls, Lock()
        self._known: dict[bytes, tuple[Call, Arrays]] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the model has under that name."""
        return getattr(self._model, name)

    def run(self, batch: np.ndarray, *outputs: str) -> Arrays:
        """Run the model as :meth:`OnnxModel.run`, and note the call."""
        key = repr((batch.shape, outputs)).encode() + batch.tobytes()
        with self._lock:
            if key not in self._known:
                self._known[key] = Call(self._model, batch, outputs), self._model.run(batch, *outputs)
            call, arrays = self._known[key]
            self._calls.append(call)
            return arrays


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    parser.add_argument("--device", type=Device, default=Device.CPU)
    parser.add_argument("--readers", type=Readers, default=Readers.BOTH)
    args = parser.parse_args()
    settings = RunSettings(
        slides=args.slides,
        out=args.slides / "counts.csv",
        precision=args.precision,
        device=args.device,
        readers=args.readers,
    )
    models = wbctool.load_models(args.models, settings.device, settings.precision, settings.readers, threads=1)
    n_cells, calls = record_calls(settings, models)
    wall_s, cpu_s = time_calls(calls, settings.workers)
    print(json.dumps({"cells": n_cells, "seconds": wall_s, "cpu_seconds": cpu_s}))


def record_calls(settings: RunSettings, models: Models) -> tuple[int, list[Call]]:
    """Analyze slides as a run does, without results, and note the calls of the models.

    Args:
        settings: The settings of the run; nothing is written to its output.
        models: The models.

    Returns:
        The number of cells and the calls, in order.
    """
    calls: list[Call] = []
    roles = {role: getattr(models, role) for role in ("detector", "generator", "classifier", "second")}
    recording: dict[str, Any] = {role: RecordingModel(model, calls) for role, model in roles.items() if model}
    stages = bind_stages(replace(models, **recording), settings)
    context = RunContext(settings, stages.models)
    slides = find_slides(settings.slides)
    with ThreadPools.create(settings.workers, context.models.prefers_large_batches) as pools:
        process_slide_fields = partial(process_fields, context, stages, pools)
        pipeline = Pipeline(context, stages, pools, process_slide_fields, _publish_nothing, context.make_hash_cache)
        n_cells = sum(len(slide.cells) for slide in pipeline.analyze_slides(slides))
    return n_cells, calls


def _publish_nothing(_: Any) -> Any:
    """Take a slide's files, which a pipeline that only analyzes does not make."""
    raise AssertionError("no slide is published")


def time_calls(calls: list[Call], workers: int) -> tuple[float, float]:
    """Make the calls again.

    Args:
        calls: The calls.
        workers: The number of threads that make them.

    Returns:
        Wall-clock seconds, and the processor's seconds in all threads.
    """

    def repeat(call: Call) -> None:
        call.model.run(call.batch, *call.outputs)

    with ThreadPoolExecutor(workers) as pool:
        start, cpu_start = time.perf_counter(), os.times()
        list(pool.map(repeat, calls))
        end, cpu_end = time.perf_counter(), os.times()
    return end - start, (cpu_end.user - cpu_start.user) + (cpu_end.system - cpu_start.system)


if __name__ == "__main__":
    main()

"""The detector: fields with boxes in, detector.onnx out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import cv2
import lightning as L
import numpy as np
from numpy.typing import NDArray

from training.data.fields import DetectorCanvases
from training.export import DetectorGraph, check_parity, publish, round_weights_fp16, to_onnx
from training.loop import loader
from training.models.detector import STRIDE, CellDetector
from training.stages.parts import restore
from training.tasks.detector import DetectorTask
from training.workplace import Workplace
from wbctool.cards import DetectorCard
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.labelled import LabelledField
from wbctool.lab.sampling import spread
from wbctool.records import Target
from wbctool.stages.images import read_field

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1


def train_detector(work: Workplace) -> None:
    """Fields with boxes -> detector.onnx. The schedule ends where it should: nothing is chosen by validation."""
    part = work.recipe.detector
    kept, held_back = work.by_split(work.fields)
    if not kept:
        raise LabelledDataInvalid("no fields with boxes to train the detector on; the other stages need none")
    log.info("detector: %d fields to train on, %d held back", len(kept), len(held_back))
    example = _detector_example(work.fields, part.canvas_px)
    L.seed_everything(work.recipe.seed, workers=True)
    task = DetectorTask(part)
    checkpoint = work.loop("detector", part.samples // part.epoch_samples).fit(
        task,
        loader(DetectorCanvases(kept, part.canvas_px, work.recipe.seed), part.batch, epoch_samples=part.epoch_samples),
        loader(DetectorCanvases(held_back, part.canvas_px, _VALIDATION_SEED), part.batch) if held_back else None,
    )
    restore(task, checkpoint)
    network = cast(CellDetector, task.average.module)
    round_weights_fp16(network)
    graph = DetectorGraph(network)
    model = to_onnx(graph, example, dynamic_side=True)
    # BatchNorm folds into the convolutions on export, and rounds differently there: a thousandth of the range.
    worst = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=0.02)
    card = DetectorCard(
        **work.card_facts("detector", network, kept, worst),
        targets=tuple(Target),
        stride=STRIDE,
        long_side_px=part.canvas_px,
        multiple_px=32,
        red_cell_px=48,
        red_cell_min_px=28,
        glance_px=192,
        score_threshold=part.score_threshold,
        faint_threshold=part.faint_threshold,
        max_overlap=0.5,
    )
    publish(model, card, work.out)


def _detector_example(fields: Sequence[LabelledField], canvas_px: int) -> NDArray[np.uint8]:
    """(N, canvas_px, canvas_px, 3) uint8, N > 1: fields, squeezed."""
    rgb = [read_field(field.path).rgb for field in spread(fields, 3)]
    squeezed = [cv2.resize(image, (canvas_px, canvas_px), interpolation=cv2.INTER_AREA) for image in rgb]
    return np.asarray(np.stack(squeezed if len(squeezed) > 1 else squeezed * 2), np.uint8)

"""Trains and exports the detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import cv2
import lightning as L
import numpy as np
from numpy.typing import NDArray

from wbctool.datasets.fields import read_labelled_field
from wbctool.datasets.labelled import LabelledField, evenly_spaced
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.model_card import DetectorCard
from wbctool.types.cells import ObjectClass
from wbctool_training.context import TrainingContext
from wbctool_training.data.detection_dataset import DetectionDataset
from wbctool_training.data.loader import make_loader
from wbctool_training.export import DetectorGraph, check_parity, round_weights_fp16, to_onnx, write_model
from wbctool_training.fit import load_weights
from wbctool_training.lightning_modules.detector import DetectorModule
from wbctool_training.models.detector import STRIDE, CellDetector

log = logging.getLogger(__name__)

_VALIDATION_SEED = 1
# How a run looks at a field (DetectorCard); none of it is learned.
_SIZE_DIVISOR = 32
_TARGET_RED_CELL_PX = 48
_MIN_RED_CELL_PX = 28
_PREVIEW_PX = 192
_NMS_IOU_THRESHOLD = 0.5


def train_detector(context: TrainingContext) -> None:
    """Train the detector on the context's fields and write detector.onnx; the last checkpoint is used.

    Args:
        context: The context of the training.

    Raises:
        LabelledDataInvalid: There are no fields with boxes outside the test split.
        ModelMismatch: The exported model differs from the network.
    """
    config = context.recipe.detector
    train, test = context.split_off_test(context.fields)
    if not train:
        problem = "all fields with boxes are in the test split" if test else "no fields with boxes"
        raise LabelledDataInvalid(
            f"{problem}: the detector cannot be trained; --stage srgan, classifier and compact need no fields"
        )
    log.info("detector: %d fields to train on, %d in the test split", len(train), len(test))
    example = _make_example(context.fields, config.canvas_px)
    L.seed_everything(context.recipe.seed, workers=True)
    module = DetectorModule(config, CellDetector(context.recipe.networks.detector_width))
    checkpoint = context.fit_config("detector", config.samples // config.epoch_samples).fit(
        module,
        make_loader(
            DetectionDataset(train, config.canvas_px, context.recipe.seed),
            config.batch,
            workers=context.options.workers,
            epoch_samples=config.epoch_samples,
        ),
        make_loader(
            DetectionDataset(test, config.canvas_px, _VALIDATION_SEED), config.batch, workers=context.options.workers
        )
        if test  # for the curves alone: the last checkpoint is used, whatever it gives on the test split
        else None,
    )
    load_weights(module, checkpoint)
    network = cast(CellDetector, module.average.module)
    round_weights_fp16(network)
    graph = DetectorGraph(network)
    model = to_onnx(graph, example, dynamic_side=True)
    # Export folds BatchNorm into the convolutions, which rounds differently by about a thousandth of the range.
    parity = check_parity(graph, model.SerializeToString(), [example[:1], example], tolerance=0.02)
    card = DetectorCard(
        **context.card_fields("detector", network, train, parity),
        classes=tuple(ObjectClass),
        stride=STRIDE,
        input_long_side_px=config.canvas_px,
        size_divisor=_SIZE_DIVISOR,
        target_red_cell_px=_TARGET_RED_CELL_PX,
        min_red_cell_px=_MIN_RED_CELL_PX,
        preview_px=_PREVIEW_PX,
        score_threshold=config.score_threshold,
        low_score_threshold=config.low_score_threshold,
        nms_iou_threshold=_NMS_IOU_THRESHOLD,
    )
    write_model(model, card, context.options.out)


def _make_example(fields: Sequence[LabelledField], canvas_px: int) -> NDArray[np.uint8]:
    """Return at least two fields, resized to (N, canvas_px, canvas_px, 3) uint8 RGB."""
    rgb = [read_labelled_field(field.path).rgb for field in evenly_spaced(fields, 3)]
    resized = [cv2.resize(image, (canvas_px, canvas_px), interpolation=cv2.INTER_AREA) for image in rgb]
    return np.asarray(np.stack(resized if len(resized) > 1 else resized * 2), np.uint8)

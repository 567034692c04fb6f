"""The labelled cell of a single-cell image: training and evaluation look for it in the same way."""

from __future__ import annotations

import math

from wbctool.cards import DetectorCard
from wbctool.onnx_model import OnnxModel
from wbctool.records import Box, Detection, Field, Target
from wbctool.stages.detect import detect_objects, without_doubtful

_WEAK_SCORE = 0.05  # in an image known to show a cell, a weak proposal is better than none


def labelled_cell(field: Field, model: OnnxModel[DetectorCard]) -> Detection:
    """The cell that an image of one labelled cell shows. None is dropped.

    The best proposal, nearer the centre before farther; a nucleated cell that a run would count before anything else,
    then weak proposals and platelets (whose class is one of the labels), and where there is nothing at all the middle
    of the image, with score 0.
    """
    height, width = field.rgb.shape[:2]

    def merit(found: Detection) -> float:
        x, y = found.box.centre
        away = math.hypot((x - width / 2) / width, (y - height / 2) / height)
        return found.score * (1 - min(away, 0.7))

    objects = detect_objects(field, model, _WEAK_SCORE)
    candidates = [d for d in objects if d.target is not Target.RED_CELL]
    counted = without_doubtful((d for d in candidates if d.target is Target.NUCLEATED), field, model.card)
    if counted or candidates:
        return max(counted or candidates, key=merit)
    side = max(1, min(height, width) // 2)
    return Detection(Box((width - side) // 2, (height - side) // 2, side, side), 0.0)

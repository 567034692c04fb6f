"""Detection of the labeled cell in a single-cell image, the same in training and evaluation."""

from __future__ import annotations

import math

from wbctool.inference.model_card import DetectorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.detect import detect_objects, filter_by_score
from wbctool.types.cells import Box, Detection, Field, ObjectClass

_MIN_SCORE = 0.05  # in an image known to show a cell, a weak proposal is better than none


def find_labelled_cell(field: Field, model: OnnxModel[DetectorCard]) -> tuple[Detection, bool]:
    """Detect the cell that an image of one labeled cell shows; every image gives a cell.

    A nucleated cell that a run would detect is preferred, then weak proposals and platelets, whose class is one of the
    labels. Among these, score and closeness to the center decide.

    Args:
        field: The image.
        model: The detector.

    Returns:
        The cell in native pixels, and whether a run would detect it. If nothing was proposed, the cell is the middle of
        the image with the score 0.
    """
    height, width = field.rgb.shape[:2]

    def score_candidate(detection: Detection) -> float:
        """Return the score of a proposal, lowered with its distance from the center."""
        x, y = detection.box.center
        center_distance = math.hypot((x - width / 2) / width, (y - height / 2) / height)
        return detection.score * (1 - min(center_distance, 0.7))

    objects = detect_objects(field, model, _MIN_SCORE)
    candidates = [d for d in objects if d.object_class is not ObjectClass.RED_CELL]
    detected = filter_by_score((d for d in candidates if d.object_class is ObjectClass.NUCLEATED), field, model.card)
    if detected or candidates:
        return max(detected or candidates, key=score_candidate), bool(detected)
    side = max(1, min(height, width) // 2)
    return Detection(Box((width - side) // 2, (height - side) // 2, side, side), 0.0), False

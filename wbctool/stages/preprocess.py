"""Bringing crops to the classifier's size: super-resolved by the generator, or resampled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.enums import SuperResolve
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.types.cells import Crop

CLASSIFIER_INPUT_PX = 128


@dataclass(frozen=True, slots=True)
class ClassifierInput:
    """rgb: (N, 128, 128, 3) uint8, RGB. super_resolved: whether each went through the generator."""

    rgb: NDArray[np.uint8]
    super_resolved: tuple[bool, ...]


def preprocess_crops(crops: Sequence[Crop], generator: OnnxModel[GeneratorCard], mode: SuperResolve) -> ClassifierInput:
    """The crops as the classifier takes them, in order, by the rule of ``mode`` (:func:`super_resolution_input_px`)."""
    prepared = np.empty((len(crops), CLASSIFIER_INPUT_PX, CLASSIFIER_INPUT_PX, 3), np.uint8)
    by_side: dict[int, list[int]] = defaultdict(list)
    sides = [super_resolution_input_px(crop.side_px, mode, generator.card) for crop in crops]
    for index, (crop, side) in enumerate(zip(crops, sides, strict=True)):
        if side is None:
            prepared[index] = resize_square(crop.rgb, CLASSIFIER_INPUT_PX)
        else:
            by_side[side].append(index)
    for side, indices in sorted(by_side.items()):
        (super_resolved,) = generator.run(np.stack([resize_square(crops[i].rgb, side) for i in indices]))
        for index, rgb in zip(indices, super_resolved, strict=True):
            prepared[index] = resize_square(rgb, CLASSIFIER_INPUT_PX)
    return ClassifierInput(prepared, tuple(side is not None for side in sides))


def super_resolution_input_px(crop_side_px: int, mode: SuperResolve, card: GeneratorCard) -> int | None:
    """The side at which a crop goes to the generator; None where it is only resampled.

    ``always``: the generator's smallest side (32, the paper's way). ``never``: None. ``auto``: the crop's own side, at
    least 32, up to the largest that the generator takes (64); a larger crop would have to give up pixels first, and
    bicubic enlargement is then nearer to the truth at a fraction of the work (README, Models).
    """
    if mode is SuperResolve.NEVER or (mode is SuperResolve.AUTO and crop_side_px > card.max_px):
        return None
    return card.min_px if mode is SuperResolve.ALWAYS else max(crop_side_px, card.min_px)

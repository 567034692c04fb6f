"""Preprocessing of crops to the classifier's size: super-resolution by the generator, or resampling.

Super-resolution before classification follows Ferdousi et al. 2024 (doi 10.1016/j.teler.2024.100163); the generator is
an SRGAN (Ledig et al. 2017, arXiv 1609.04802).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from wbctool.enums import SuperResolve
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import SUPER_RESOLVED, OnnxModel
from wbctool.types.cells import Crop

CLASSIFIER_INPUT_PX: Final = 128  # as every card has it


@dataclass(frozen=True, slots=True)
class ClassifierInput:
    """Preprocessed crops.

    Attributes:
        rgb: (N, 128, 128, 3) uint8 RGB.
        super_resolved: Whether each crop went through the generator.
    """

    rgb: NDArray[np.uint8]
    super_resolved: tuple[bool, ...]


def preprocess_crops(crops: Sequence[Crop], generator: OnnxModel[GeneratorCard], mode: SuperResolve) -> ClassifierInput:
    """Bring crops to the classifier's size, by the rule of :func:`super_resolution_input_px`.

    Args:
        crops: The crops, (n, n, 3) uint8 RGB each, of any sides.
        generator: The super-resolution generator.
        mode: Which crops go through the generator.

    Returns:
        The crops as the classifier takes them, in order.
    """
    preprocessed = np.empty((len(crops), CLASSIFIER_INPUT_PX, CLASSIFIER_INPUT_PX, 3), np.uint8)
    by_side: dict[int, list[int]] = defaultdict(list)
    sides = [super_resolution_input_px(crop.side_px, mode, generator.card) for crop in crops]
    for index, (crop, side) in enumerate(zip(crops, sides, strict=True)):
        if side is None:
            preprocessed[index] = resize_square(crop.rgb, CLASSIFIER_INPUT_PX)
        else:
            by_side[side].append(index)
    for side, indices in sorted(by_side.items()):
        batch = np.stack([resize_square(crops[i].rgb, side) for i in indices])
        (super_resolved,) = generator.run(batch, SUPER_RESOLVED)
        for index, rgb in zip(indices, super_resolved, strict=True):
            preprocessed[index] = resize_square(rgb, CLASSIFIER_INPUT_PX)
    return ClassifierInput(preprocessed, tuple(side is not None for side in sides))


def super_resolution_input_px(crop_side_px: int, mode: SuperResolve, card: GeneratorCard) -> int | None:
    """Return the side that a crop is resized to before it goes through the generator.

    Let n be the crop's own side in pixels. The shipped generator takes sides of 32 to 64 pixels, and its output is four
    times as large. ``auto`` leaves larger crops out: they would lose pixels first, and bicubic enlargement is then
    closer to the original at a fraction of the work (docs/models.md).

    Args:
        crop_side_px: n, the side of the native crop.
        mode: ``always``: 32, as in the paper. ``never``: None. ``auto``: n, at least 32; None if n is larger than 64.
        card: The generator's card, which names the two bounds.

    Returns:
        The side; None if the crop is only resampled.
    """
    if mode is SuperResolve.NEVER or (mode is SuperResolve.AUTO and crop_side_px > card.max_px):
        return None
    return card.min_px if mode is SuperResolve.ALWAYS else max(crop_side_px, card.min_px)

"""DESIGN's super-resolution rule, side by side, and the order of what comes back."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wbctool.enums import SuperResolve
from wbctool.imaging.resize import resize_square
from wbctool.stages.preprocess import preprocess_crops, super_resolution_input_px
from wbctool.types.cells import Crop

CARD: Any = SimpleNamespace(scale=4, min_px=32, max_px=64)


class FakeGenerator:
    """Enlarges four times by repetition, and remembers the sides it was given."""

    card = CARD

    def __init__(self) -> None:
        self.sides: list[int] = []

    def run(self, batch: np.ndarray, *outputs: str) -> tuple[np.ndarray, ...]:
        assert outputs == ("sr",)
        self.sides += [batch.shape[1]] * len(batch)
        return (batch.repeat(4, axis=1).repeat(4, axis=2),)


@pytest.mark.parametrize(
    ("crop_px", "mode", "expected"),
    [
        (128, SuperResolve.AUTO, None),
        (300, SuperResolve.AUTO, None),
        (127, SuperResolve.AUTO, None),
        (65, SuperResolve.AUTO, None),
        (64, SuperResolve.AUTO, 64),
        (45, SuperResolve.AUTO, 45),
        (20, SuperResolve.AUTO, 32),
        (300, SuperResolve.ALWAYS, 32),
        (20, SuperResolve.ALWAYS, 32),
        (20, SuperResolve.NEVER, None),
    ],
)
def test_super_resolution_input_px_follows_the_rule(crop_px: int, mode: SuperResolve, expected: int | None) -> None:
    assert super_resolution_input_px(crop_px, mode, CARD) == expected


def test_preprocess_crops_of_many_sizes_keeps_order_at_128_pixels() -> None:
    crops = [Crop(np.full((n, n, 3), n % 256, np.uint8)) for n in (40, 200, 60, 40, 128)]
    generator: Any = FakeGenerator()
    preprocessed = preprocess_crops(crops, generator, SuperResolve.AUTO)
    assert preprocessed.rgb.shape == (5, 128, 128, 3)
    assert preprocessed.rgb[:, 64, 64, 0].tolist() == [40, 200, 60, 40, 128]
    assert preprocessed.super_resolved == (True, False, True, True, False)
    assert sorted(generator.sides) == [40, 40, 60]


def test_preprocess_crops_without_crops_returns_empty_input() -> None:
    generator: Any = FakeGenerator()
    preprocessed = preprocess_crops([], generator, SuperResolve.AUTO)
    assert preprocessed.rgb.shape == (0, 128, 128, 3)
    assert preprocessed.super_resolved == ()


def test_resize_square_averages_when_it_reduces() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 200
    small = resize_square(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), 4)
    assert (small == 100).all()

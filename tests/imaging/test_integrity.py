"""Rows of a decoded image that show missing data."""

import tracemalloc

import numpy as np
import pytest

from wbctool.imaging.integrity import count_missing_rows


def with_gray_rows(height: int, n_missing: int, width: int = 64) -> np.ndarray:
    rgb = np.random.default_rng(0).integers(150, 250, (height, width, 3)).astype(np.uint8)
    rgb[height - n_missing :] = 128
    return rgb


@pytest.mark.parametrize(("height", "n_missing"), [(480, 160), (480, 0), (2000, 1000), (2000, 1744)])
def test_count_missing_rows_of_any_number(height: int, n_missing: int) -> None:
    assert count_missing_rows(with_gray_rows(height, n_missing)) == n_missing


def test_count_missing_rows_takes_little_memory() -> None:
    rgb = with_gray_rows(8000, 800, 1000)
    tracemalloc.start()
    count_missing_rows(rgb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * rgb.nbytes

import numpy as np
import pytest

from wbctool.imaging.resize import downscale, resize_square

CHECKERBOARD = np.repeat((np.indices((8, 8)).sum(axis=0) % 2 * 200)[..., None], 3, axis=2).astype(np.uint8)


def test_resize_square_shrinking_averages_pixels():
    assert (resize_square(CHECKERBOARD, 4) == 100).all()


def test_resize_square_of_that_size_returns_the_same_array():
    assert resize_square(CHECKERBOARD, 8) is CHECKERBOARD


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (3, 3)])
def test_downscale_skips_no_pixel_of_a_checkerboard(size):
    reduced = downscale(CHECKERBOARD, *size)
    assert reduced.shape == (*size, 3)
    assert np.abs(reduced.astype(int) - 100).max() <= 1


def test_downscale_takes_width_before_height_and_grey_images():
    assert downscale(CHECKERBOARD[..., 0], 5, 3).shape == (3, 5)

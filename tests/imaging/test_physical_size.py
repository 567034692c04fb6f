"""The size of a pixel by metadata, as microscopes' programs write it."""

import io

import numpy as np
import pytest
import tifffile

from wbctool.imaging.physical_size import read_um_per_px

RGB = np.zeros((32, 32, 3), np.uint8)


def write(rgb=RGB, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, rgb, photometric="rgb", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("options", "um_per_px"),
    [
        ({"resolution": (40000, 40000), "resolutionunit": "CENTIMETER"}, 0.25),
        ({"resolution": (254000, 254000), "resolutionunit": "INCH"}, 0.1),
        ({"resolution": (10, 10), "imagej": True, "metadata": {"unit": "um"}}, 0.1),
        ({"resolution": (10, 10), "imagej": True, "metadata": {"unit": "\\u00B5m"}}, 0.1),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeXUnit": "µm"}}, 0.2),
        (
            {
                "ome": True,
                "metadata": {
                    "PhysicalSizeX": 65.0,
                    "PhysicalSizeY": 65.0,
                    "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeYUnit": "nm",
                },
            },
            0.065,
        ),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (40000, 20000), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (1, 1), "resolutionunit": "NONE"}, None),
        ({"ome": True}, None),
        ({}, None),
    ],
)
def test_read_um_per_px(options, um_per_px):
    assert read_um_per_px(write(**options)) == pytest.approx(um_per_px)


def test_other_images_do_not_tell():
    assert read_um_per_px(b"\xff\xd8\xff") is None
    assert read_um_per_px(write(resolution=(40000, 40000), resolutionunit="CENTIMETER")[:60]) is None


def test_read_um_per_px_is_that_of_the_full_image_beside_a_thumbnail():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(RGB[::8, ::8], photometric="rgb", subfiletype=1, resolution=(12500, 12500), resolutionunit=3)
        file.write(RGB, photometric="rgb", resolution=(100000, 100000), resolutionunit=3)
    assert read_um_per_px(buffer.getvalue()) == pytest.approx(0.1)

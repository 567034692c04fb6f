"""Copies of the demo's fields, as many as a benchmark needs."""

from __future__ import annotations

from pathlib import Path

import cv2

DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
FIELDS_A_SLIDE = 16  # as many as the demo has, since the cells of repeated fields would be counted once
_JPEG_QUALITY = 95


def copy_fields(slides: Path, number: int, divisor: int = 1) -> None:
    """Write slides of 16 fields, which are copies of the demo's first two slides in turn.

    Args:
        slides: Where they go.
        number: How many fields in all.
        divisor: The side of a demo's field over that of its copy.
    """
    demo = [read_jpeg(path, divisor) for path in sorted(DEMO.glob("slide-0[12]/*.jpg"))]
    for index in range(number):
        target = slides / f"slide-{index // FIELDS_A_SLIDE:04d}" / f"field-{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(demo[index % len(demo)])


def read_jpeg(path: Path, divisor: int) -> bytes:
    """Return a JPEG file: the same bytes or, with a divisor above 1, the image reduced by area."""
    if divisor == 1:
        return path.read_bytes()
    image = cv2.imread(str(path))
    assert image is not None
    size = image.shape[1] // divisor, image.shape[0] // divisor
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", reduced, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()

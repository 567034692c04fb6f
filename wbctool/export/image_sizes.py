"""Image sizes of the analyzed fields, which COCO needs and published results do not have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wbctool.errors import FieldUnreadable, ResultsInvalid
from wbctool.imaging.reader import oriented_size
from wbctool.types.cells import Slide
from wbctool.types.results import PublishedSlide


def read_field_sizes(
    published: Iterable[PublishedSlide], slides: Iterable[Slide], root: Path
) -> dict[tuple[str, str], tuple[int, int]]:
    """Read the sizes of all analyzed fields from the headers of their images.

    Args:
        published: Published slides.
        slides: The slides as :func:`wbctool.pipeline.run_slides.find_run_slides` finds them.
        root: Their folder, for error messages.

    Returns:
        (width, height) in pixels as displayed, by (slide, field).

    Raises:
        ResultsInvalid: An image is missing or unreadable, or a cell lies outside it because it is another image now.
    """
    paths = {(slide.id, path.name): path for slide in slides for path in slide.fields}
    sizes = {}
    for published_slide in published:
        slide = published_slide.result.slide
        for field in published_slide.analyzed_fields:
            path = paths.get((slide, field))
            if path is None:
                raise ResultsInvalid(f"image {field!r} of slide {slide!r} is no longer in {root}")
            try:
                sizes[slide, field] = oriented_size(path)
            except FieldUnreadable as error:
                raise ResultsInvalid(f"{path}: {error}") from error
        for cell in published_slide.result.cells:
            box, (width, height) = cell.detection.box, sizes[slide, cell.field]
            if box.x + box.width > width or box.y + box.height > height:
                raise ResultsInvalid(
                    f"{paths[slide, cell.field]} is not the analyzed image, because a cell lies outside it; run again"
                )
    return sizes

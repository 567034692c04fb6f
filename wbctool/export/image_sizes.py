"""Image sizes of the analyzed fields, which COCO needs and published results do not have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wbctool.errors import FieldUnreadable, ResultsInvalid
from wbctool.imaging.reader import oriented_size
from wbctool.store.hash_cache import digest_large_file
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
        ResultsInvalid: An image is missing or unreadable, or is another one than the run analyzed.
    """
    paths = {(slide.id, path.name): path for slide in slides for path in slide.fields}
    sizes = {}
    for published_slide in published:
        slide, hashes = published_slide.result.slide, dict(published_slide.result.field_hashes)
        for field in published_slide.analyzed_fields:
            path = paths.get((slide, field))
            if path is None:
                raise ResultsInvalid(f"image {field!r} of slide {slide!r} is no longer in {root}")
            try:
                is_analyzed = digest_large_file(path) == hashes[field]
                sizes[slide, field] = oriented_size(path)
            except OSError as error:
                raise ResultsInvalid(f"{path}: {error.strerror or error}") from error
            except FieldUnreadable as error:
                raise ResultsInvalid(f"{path}: {error}") from error
            if not is_analyzed:
                raise ResultsInvalid(
                    f"{path} is not the image that was analyzed; name the folder that has these images with --slides, "
                    "or run again"
                )
    return sizes

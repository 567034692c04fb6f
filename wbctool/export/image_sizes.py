"""Image sizes of the analyzed fields, which COCO needs and published results do not have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wbctool.errors import FieldUnreadable, RecordInvalid, ResultsInvalid, SlidesNotFound
from wbctool.imaging.reader import oriented_size
from wbctool.paths import OutputPaths
from wbctool.pipeline.discovery import find_slides
from wbctool.store.run_record import read_run_record
from wbctool.types.cells import Slide
from wbctool.types.results import PublishedSlide


def find_run_slides(layout: OutputPaths, root: Path | None) -> tuple[tuple[Slide, ...], Path]:
    """Find the slides of a run again.

    Args:
        layout: Paths of the results.
        root: Folder where the slides are now; None for the folder that the run recorded.

    Returns:
        The slides and their folder.

    Raises:
        ResultsInvalid: run.json does not name the folder, or there are no slides in it.
    """
    settings = read_run_record(layout).settings
    try:
        folder, follow_links = root or Path(settings["slides"]), bool(settings["follow_links"])
    except (KeyError, TypeError) as error:
        raise RecordInvalid(layout.run_json, f"is not a valid record of a run: settings: {error}") from error
    try:
        return find_slides(folder, follow_links, [layout.folder], lambda _: None), folder  # the run gave the notices
    except SlidesNotFound as error:
        raise ResultsInvalid(f"{error}; use --slides to name the folder that has the images now") from error


def read_field_sizes(
    published: Iterable[PublishedSlide], slides: Iterable[Slide], root: Path
) -> dict[tuple[str, str], tuple[int, int]]:
    """Read the sizes of all analyzed fields from the headers of their images.

    Args:
        published: Published slides.
        slides: The slides as :func:`find_run_slides` finds them.
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

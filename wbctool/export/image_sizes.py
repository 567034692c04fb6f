"""The sizes of the images that results were made of: results hold none, and COCO asks for them."""

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
    """The slides that results were made of, and their folder: ``root``, or where the last run found them.

    Raises ResultsInvalid where run.json does not say, or nothing is there now.
    """
    settings = read_run_record(layout).settings
    try:
        folder, follow_links = root or Path(settings["slides"]), bool(settings["follow_links"])
    except (KeyError, TypeError) as error:
        raise RecordInvalid(layout.run_json, f"is not a valid record of a run: settings: {error}") from error
    try:
        return find_slides(folder, follow_links, skip=[layout.folder]), folder
    except SlidesNotFound as error:
        raise ResultsInvalid(f"{error}; use --slides to say where the images are now") from error


def read_field_sizes(
    published: Iterable[PublishedSlide], slides: Iterable[Slide], root: Path
) -> dict[tuple[str, str], tuple[int, int]]:
    """(width, height) in pixels of every field that was analysed, by (slide, field), from the images' headers.

    Raises ResultsInvalid where an image is missing or unreadable, or a cell lies outside it: then it is another one.
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
                    f"{paths[slide, cell.field]} is a different image now, as a cell lies outside it; run again"
                )
    return sizes

"""The first half of a field's way: read the image, detect and crop its cells, measure its quality."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from wbctool.errors import WbctoolError
from wbctool.imaging.reader import decode_rgb, header_megapixels, read_image_bytes
from wbctool.imaging.thumbnails import make_cell_thumbnail, make_field_thumbnail
from wbctool.pipeline.context import RunContext
from wbctool.stages.quality import measure_quality
from wbctool.store.hash_cache import FileStat, get_file_stat
from wbctool.timing import StageTimer
from wbctool.types.cells import Crop, Detection, Field, ObjectClass, Slide
from wbctool.types.results import FieldFailure, FieldThumbnail
from wbctool.types.slides import FieldQuality

log = logging.getLogger(__name__)

_LARGE_FIELD_MEGAPIXELS = 50  # only one larger field is decoded at a time: decoding takes about ten bytes per pixel


class _Stopped(Exception):
    """The run was asked to stop within a field."""


@dataclass(frozen=True, slots=True)
class FieldAnalysis:
    """A field after detection. Its pixels are no longer in memory.

    Attributes:
        slide: The slide's id.
        name: The field's name.
        timer: The seconds per stage.
        sha256: The SHA-256 of the file; None if it could not be read.
        file_stat: The file's size and times; None if they could not be read.
        detections: The nucleated cells.
        crops: The crop of each cell.
        thumbnails: The thumbnail of each crop, as WebP.
        field_thumbnail: The thumbnail of the field; None without cells.
        failure: Why the field could not be analyzed; None if it was.
        quality: The field's quality; None if it could not be analyzed.
    """

    slide: str
    name: str
    timer: StageTimer
    sha256: str | None
    file_stat: FileStat | None
    detections: tuple[Detection, ...] = ()
    crops: tuple[Crop, ...] = ()
    thumbnails: tuple[bytes, ...] = ()
    field_thumbnail: FieldThumbnail | None = None
    failure: FieldFailure | None = None
    quality: FieldQuality | None = None


def analyze_field(context: RunContext, slide: Slide, path: Path) -> FieldAnalysis:
    """Read a field, detect its cells and cut them out, and measure its quality.

    This function raises nothing: any error is a failure of this field alone.

    Args:
        context: The run.
        slide: The field's slide.
        path: The field's image.

    Returns:
        The analysis; an empty one if the run was asked to stop.
    """
    timer, sha256, file_stat = StageTimer(), None, None
    if context.should_stop():
        return FieldAnalysis(slide.id, path.name, timer, None, None)
    stages, max_megapixels = context.stages, context.settings.max_megapixels
    metadata = context.metadata.get(slide.id)
    try:
        with timer("read"):
            file_stat = get_file_stat(path)
            data = read_image_bytes(path, max_megapixels)
            sha256 = hashlib.sha256(data).hexdigest()
        with context.large_field_lock if header_megapixels(data) > _LARGE_FIELD_MEGAPIXELS else nullcontext():
            with timer("read"):
                field = Field(path.name, decode_rgb(data, max_megapixels))
            del data
            with timer("check"):
                stages.check(field)
            with timer("detect"):
                detections = stages.detect(field, partial(_track_tiles, context, slide, path))
                cells = tuple(d for d in detections if d.object_class is ObjectClass.NUCLEATED)
            with timer("crop"):
                crops = stages.crop(field, [cell.box for cell in cells])
            with timer("picture"):
                thumbnails = tuple(make_cell_thumbnail(crop) for crop in crops)
                field_thumbnail = make_field_thumbnail(field) if crops else None
            with timer("quality"):
                um_per_px = metadata.um_per_px if metadata else None
                quality = measure_quality(field, detections, stages.stain_reference, um_per_px)
    except _Stopped:
        return FieldAnalysis(slide.id, path.name, timer, None, None)
    except Exception as error:  # any error is this field's alone
        # The field is not at fault if memory is short: with more memory it may succeed.
        stage = "memory" if isinstance(error, MemoryError) else timer.stage
        failure = make_failure(slide.id, path.name, stage, error)
        return FieldAnalysis(slide.id, path.name, timer, sha256, file_stat, failure=failure)
    return FieldAnalysis(
        slide=slide.id,
        name=path.name,
        timer=timer,
        sha256=sha256,
        file_stat=file_stat,
        detections=cells,
        crops=crops,
        thumbnails=thumbnails,
        field_thumbnail=field_thumbnail,
        quality=quality,
    )


def _track_tiles(
    context: RunContext, slide: Slide, path: Path, tiles: Iterable[Any], total: int, description: str
) -> Iterator[Any]:
    """Show the progress within a large field, and stop there if the run was asked to."""
    log.info("slide %r, field %r: looked at in %d %s", slide.id, path.name, total, description)
    for tile in context.track(tiles, total, f"{path.name}: {description}"):
        if context.should_stop():
            raise _Stopped
        yield tile


def format_error(error: Exception) -> str:
    """Return an error's cause in one line. Errors that are not ours are named by their class, too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WbctoolError) else f"{type(error).__name__}: {text}"


def make_failure(slide: str, name: str, stage: str, error: Exception) -> FieldFailure:
    """Record and log that a field failed.

    Args:
        slide: The slide's id.
        name: The field's name.
        stage: The stage that raised the error.
        error: The error. The log gets its traceback if it is not one of ours.

    Returns:
        The record of the failure.
    """
    failure = FieldFailure(slide, name, stage, format_error(error))
    exc_info = None if isinstance(error, WbctoolError) else error
    log.error("slide %r, field %r, %s: %s", slide, name, stage, failure.cause, exc_info=exc_info)
    return failure

"""The first half of a field's way: read the image, detect and crop its cells, measure its quality."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from wbctool.errors import FieldUnreadable, FieldWronglySaved, WbctoolError
from wbctool.imaging.thumbnails import make_cell_thumbnail, make_field_thumbnail
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.context import RunContext, RunStopped
from wbctool.pipeline.field_source import FieldSource
from wbctool.stages.quality import measure_quality
from wbctool.store.hash_cache import FileStat
from wbctool.timing import Stage, StageTimer
from wbctool.types.cells import Crop, Detection, Field, ObjectClass, Slide
from wbctool.types.results import FieldFailure, FieldThumbnail
from wbctool.types.slides import FieldQuality

log = logging.getLogger(__name__)

_LARGE_FIELD_MEGAPIXELS = 50  # only one larger field is decoded at a time: decoding takes about ten bytes per pixel


@dataclass(frozen=True, slots=True)
class FieldAnalysis:
    """A field after detection. Its pixels are no longer in memory.

    Attributes:
        slide: The slide's id.
        source: Where the field comes from.
        timer: The seconds per stage.
        sha256: The SHA-256 of the file, or of a zone's pixels; None if it could not be read.
        file_stat: The file's size and times; None if it could not be read, or is not the field's own.
        detections: The nucleated cells, in the pixels of cells.csv.
        crops: The crop of each cell.
        thumbnails: The thumbnail of each crop, as WebP.
        field_thumbnail: The thumbnail of the field; None without cells.
        failure: Why the field could not be analyzed; None if it was.
        quality: The field's quality; None if it could not be analyzed.
    """

    slide: str
    source: FieldSource
    timer: StageTimer
    sha256: str | None
    file_stat: FileStat | None
    detections: tuple[Detection, ...] = ()
    crops: tuple[Crop, ...] = ()
    thumbnails: tuple[bytes, ...] = ()
    field_thumbnail: FieldThumbnail | None = None
    failure: FieldFailure | None = None
    quality: FieldQuality | None = None

    @property
    def name(self) -> str:
        """The field's name."""
        return self.source.name


def analyze_field(context: RunContext, stages: BoundStages, slide: Slide, source: FieldSource) -> FieldAnalysis:
    """Read a field, detect its cells and cut them out, and measure its quality.

    This function raises nothing: any error is a failure of this field alone.

    Args:
        context: The run.
        stages: The stages with their models.
        slide: The field's slide.
        source: Where the field comes from.

    Returns:
        The analysis; an empty one if the run was asked to stop.
    """
    timer, sha256, file_stat = StageTimer(), None, None
    if context.should_stop():
        return FieldAnalysis(slide.id, source, timer, None, None)
    try:
        with timer(Stage.READ):
            opened = source.open()
            sha256, file_stat, um_per_px = opened.sha256, opened.file_stat, opened.um_per_px
        with context.large_field_lock if opened.megapixels > _LARGE_FIELD_MEGAPIXELS else nullcontext():
            with timer(Stage.READ):
                field = Field(source.name, opened.decode())
            del opened
            with timer(Stage.CHECK):
                stages.check(field)
            with timer(Stage.DETECT):
                detections = stages.detect(field, partial(_track_tiles, context, slide, source.name))
                cells = source.select_own([d for d in detections if d.object_class is ObjectClass.NUCLEATED])
            with timer(Stage.CROP):
                crops = stages.crop(field, [cell.box for cell in cells])
            with timer(Stage.THUMBNAIL):
                thumbnails = tuple(make_cell_thumbnail(crop) for crop in crops)
                field_thumbnail = source.place_thumbnail(make_field_thumbnail(field)) if crops else None
            with timer(Stage.QUALITY):
                quality = measure_quality(field, detections, stages.stain_reference, um_per_px)
    except RunStopped:
        return FieldAnalysis(slide.id, source, timer, None, None)
    except Exception as error:  # any error is this field's alone
        failure = make_failure(slide.id, source.name, _failed_stage(error, source, timer.stage), error)
        return FieldAnalysis(slide.id, source, timer, sha256, file_stat, failure=failure)
    return FieldAnalysis(
        slide=slide.id,
        source=source,
        timer=timer,
        sha256=sha256,
        file_stat=file_stat,
        detections=source.place(cells),
        crops=crops,
        thumbnails=thumbnails,
        field_thumbnail=field_thumbnail,
        quality=quality,
    )


def _failed_stage(error: Exception, source: FieldSource, stage: Stage | None) -> Stage:
    """Return the stage to record for an error in a stage; by it the next run knows whether the file is at fault."""
    if isinstance(error, MemoryError):
        return Stage.MEMORY  # with more memory the field may succeed
    if isinstance(error, FieldUnreadable):
        return Stage.READ if stage is Stage.READ else Stage.CHECK
    return source.reading_stage if stage is None or stage is Stage.READ else stage


def _track_tiles(
    context: RunContext, slide: Slide, name: str, tiles: Iterable[Any], total: int, description: str
) -> Iterator[Any]:
    """Show the progress within a large field, and stop there if the run was asked to."""
    log.info("slide %r, field %r: looked at in %d %s", slide.id, name, total, description)
    for tile in context.track(tiles, total, f"{name}: {description}"):
        if context.should_stop():
            raise RunStopped
        yield tile


def format_error(error: Exception) -> str:
    """Return an error's cause in one line. Errors that are not ours are named by their class, too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WbctoolError) else f"{type(error).__name__}: {text}"


def make_failure(slide: str, name: str, stage: Stage, error: Exception) -> FieldFailure:
    """Record and log that a field failed.

    Args:
        slide: The slide's id.
        name: The field's name.
        stage: The stage that raised the error.
        error: The error. The log gets its traceback if it is not one of ours.

    Returns:
        The record of the failure.
    """
    failure = FieldFailure(slide, name, stage, format_error(error), isinstance(error, FieldWronglySaved))
    exc_info = None if isinstance(error, WbctoolError) else error
    log.error("slide %r, field %r, %s: %s", slide, name, stage, failure.cause, exc_info=exc_info)
    return failure

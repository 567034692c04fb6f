"""One field on its way to the classifier: read, its cells detected and cut, its quality measured."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from wbctool.errors import WbctoolError
from wbctool.imaging.reader import decode_rgb, header_megapixels, read_image_bytes
from wbctool.imaging.thumbnails import make_cell_thumbnail, make_field_thumbnail
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.stages.quality import measure_quality
from wbctool.store.hash_cache import FileStat, get_file_stat
from wbctool.timing import StageTimer
from wbctool.types.cells import Crop, Detection, Field, ObjectClass
from wbctool.types.results import FieldFailure, FieldThumbnail
from wbctool.types.slides import FieldQuality

log = logging.getLogger(__name__)

_LARGE_FIELD_MEGAPIXELS = 50  # of those only one is in memory at a time: decoding takes some ten bytes a pixel


@dataclass(frozen=True, slots=True)
class FieldAnalysis:
    """A field after detection: its crops, or why there are none. The field's pixels are gone by then.

    slide: its id. name: the field's.
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


@dataclass(frozen=True, slots=True)
class FieldAnalyzer:
    """What it takes to look at fields, in several threads. max_megapixels: larger fields are refused.

    large_field_lock: held by the one thread that decodes a large one.
    """

    stages: BoundStages
    max_megapixels: float
    should_stop: Callable[[], bool]
    large_field_lock: Lock = field(default_factory=Lock)

    def analyze(self, slide: str, path: Path, um_per_px: float | None) -> FieldAnalysis:
        """Raises nothing: whatever goes wrong is this field's alone. um_per_px: None where nobody said."""
        timer, sha256, file_stat = StageTimer(), None, None
        if self.should_stop():
            return FieldAnalysis(slide, path.name, timer, None, None)  # nobody will look at it
        try:
            with timer("read"):
                file_stat = get_file_stat(path)
                data = read_image_bytes(path, self.max_megapixels)
                sha256 = hashlib.sha256(data).hexdigest()
            with self.large_field_lock if header_megapixels(data) > _LARGE_FIELD_MEGAPIXELS else nullcontext():
                with timer("read"):
                    field_ = Field(path.name, decode_rgb(data, self.max_megapixels))
                del data
                with timer("detect"):
                    all_detections = self.stages.detect(field_)
                    detections = tuple(d for d in all_detections if d.object_class is ObjectClass.NUCLEATED)
                with timer("crop"):
                    crops = self.stages.crop(field_, [detection.box for detection in detections])
                with timer("picture"):
                    thumbnails = tuple(make_cell_thumbnail(crop) for crop in crops)
                    field_thumbnail = make_field_thumbnail(field_) if crops else None
                with timer("quality"):
                    quality = measure_quality(field_, all_detections, self.stages.stain_reference, um_per_px)
        except Exception as error:  # whatever it is, it is this field's alone
            # Short memory is not the field's fault: another time there may be enough.
            stage = "memory" if isinstance(error, MemoryError) else timer.stage
            return FieldAnalysis(
                slide, path.name, timer, sha256, file_stat, failure=make_failure(slide, path.name, stage, error)
            )
        return FieldAnalysis(
            slide,
            path.name,
            timer,
            sha256,
            file_stat,
            detections,
            crops,
            thumbnails,
            field_thumbnail,
            quality=quality,
        )


def format_error(error: Exception) -> str:
    """A cause in one line: ours are written for the user, others are named by their class too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WbctoolError) else f"{type(error).__name__}: {text}"


def make_failure(slide: str, name: str, stage: str, error: Exception) -> FieldFailure:
    """The failure of a field in a stage; logged."""
    failure = FieldFailure(slide, name, stage, format_error(error))
    exc_info = None if isinstance(error, WbctoolError) else error  # of which the log keeps the traceback
    log.error("slide %r, field %r, %s: %s", slide, name, stage, failure.cause, exc_info=exc_info)
    return failure

"""One field on its way to the classifier: read, its cells detected and cut, its quality measured."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from wbctool.batch.clock import StageClock
from wbctool.batch.seen_files import Stamp, stamp_of
from wbctool.batch.stages import Stages
from wbctool.errors import WbctoolError
from wbctool.records import Crop, Detection, Field, Target
from wbctool.report.pictures import cell_picture, field_picture
from wbctool.slide_facts import FieldQuality
from wbctool.slide_results import FieldFailure, FieldPicture
from wbctool.stages.images import decode_rgb, megapixels, read_image_bytes
from wbctool.stages.quality import measure_field

log = logging.getLogger(__name__)

_LARGE_MEGAPIXELS = 50  # of those only one is in memory at a time: decoding takes some ten bytes a pixel


@dataclass(frozen=True, slots=True)
class Looked:
    """A field after detection: its crops, or why there are none. The field's pixels are gone by then.

    slide: its id. name: the field's.
    """

    slide: str
    name: str
    clock: StageClock
    sha256: str | None
    stamp: Stamp | None
    detections: tuple[Detection, ...] = ()
    crops: tuple[Crop, ...] = ()
    pictures: tuple[bytes, ...] = ()
    overview: FieldPicture | None = None
    failure: FieldFailure | None = None
    quality: FieldQuality | None = None


@dataclass(frozen=True, slots=True)
class FieldLooker:
    """What it takes to look at fields, in several threads. max_megapixels: larger fields are refused.

    large_field: held by the one thread that decodes a large one.
    """

    stages: Stages
    max_megapixels: float
    stopped: Callable[[], bool]
    large_field: Lock = field(default_factory=Lock)

    def look(self, slide: str, path: Path, um_per_px: float | None) -> Looked:
        """Raises nothing: whatever goes wrong is this field's alone. um_per_px: None where nobody said."""
        clock, sha256, stamp = StageClock(), None, None
        if self.stopped():
            return Looked(slide, path.name, clock, None, None)  # nobody will look at it
        try:
            with clock("read"):
                stamp = stamp_of(path)
                data = read_image_bytes(path, self.max_megapixels)
                sha256 = hashlib.sha256(data).hexdigest()
            with self.large_field if megapixels(data) > _LARGE_MEGAPIXELS else nullcontext():
                with clock("read"):
                    field_ = Field(path.name, decode_rgb(data, self.max_megapixels))
                del data
                with clock("detect"):
                    found = self.stages.detect(field_)
                    detections = tuple(d for d in found if d.target is Target.NUCLEATED)
                with clock("crop"):
                    crops = self.stages.crop(field_, [detection.box for detection in detections])
                with clock("picture"):
                    pictures = tuple(cell_picture(crop) for crop in crops)
                    overview = field_picture(field_) if crops else None
                with clock("quality"):
                    quality = measure_field(field_, found, self.stages.colours, um_per_px)
        except Exception as error:  # whatever it is, it is this field's alone
            # Short memory is not the field's fault: another time there may be enough.
            stage = "memory" if isinstance(error, MemoryError) else clock.stage
            return Looked(slide, path.name, clock, sha256, stamp, failure=failure_of(slide, path.name, stage, error))
        return Looked(
            slide,
            path.name,
            clock,
            sha256,
            stamp,
            detections,
            crops,
            pictures,
            overview,
            quality=quality,
        )


def describe(error: Exception) -> str:
    """A cause in one line: ours are written for the user, others are named by their class too."""
    text = " ".join(str(error).split())
    return text if isinstance(error, WbctoolError) else f"{type(error).__name__}: {text}"


def failure_of(slide: str, name: str, stage: str, error: Exception) -> FieldFailure:
    """The failure of a field in a stage; logged."""
    failure = FieldFailure(slide, name, stage, describe(error))
    defect = None if isinstance(error, WbctoolError) else error  # of which the log keeps the traceback
    log.error("slide %r, field %r, %s: %s", slide, name, stage, failure.cause, exc_info=defect)
    return failure

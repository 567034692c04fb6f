"""Where a field comes from: an image file, or a zone of a scan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from wbctool.imaging.physical_size import read_um_per_px
from wbctool.imaging.reader import decode_rgb, header_megapixels, read_image_bytes
from wbctool.imaging.scan import Level, Scan
from wbctool.stages.tiles import Tile, holds_center, place_detection
from wbctool.store.hash_cache import FileStat, get_file_stat
from wbctool.timing import Stage
from wbctool.types.cells import Box, Detection
from wbctool.types.results import FieldThumbnail

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb


@dataclass(frozen=True, slots=True)
class OpenField:
    """A field that was read and is not decoded yet.

    Attributes:
        sha256: The hash of what was read.
        file_stat: The size and times of the field's own file; None if it has none.
        megapixels: How large it will be.
        decode: Returns the pixels, (H, W, 3) uint8 RGB.
        um_per_px: The side of a pixel in µm by slides.csv or the metadata; None if neither tells.
    """

    sha256: str
    file_stat: FileStat | None
    megapixels: float
    decode: Callable[[], Rgb]
    um_per_px: float | None


class FieldSource(Protocol):
    """One field of a slide before it is read."""

    @property
    def name(self) -> str:
        """The field's name."""

    @property
    def survey_round(self) -> int:
        """The number of the round of a scan's survey that found it; 0 for an image."""

    @property
    def reading_stage(self) -> Stage:
        """The stage that its failure names if it cannot be read, though no image is at fault."""

    def open(self) -> OpenField:
        """Read the field without decoding it.

        Raises:
            FieldUnreadable: It is no image that can be read, or is too large.
            Exception: Whatever else fails; it makes the field a failed one.
        """

    def select_own(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return the detections that belong to it, in its pixels."""

    def place(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return detections of the field in the pixels of cells.csv."""

    def is_on_seam(self, detection: Detection) -> bool:
        """Return whether another field may have a cell, too, which is given in the pixels of cells.csv."""

    def place_thumbnail(self, thumbnail: FieldThumbnail) -> FieldThumbnail:
        """Return the field's thumbnail with its place in the pixels of cells.csv."""


class _InOwnPixels:
    """A field whose pixels are those of cells.csv."""

    __slots__ = ()

    def select_own(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return all detections."""
        return tuple(detections)

    def place(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return the detections as they are."""
        return tuple(detections)

    def is_on_seam(self, detection: Detection) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def place_thumbnail(self, thumbnail: FieldThumbnail) -> FieldThumbnail:
        """Return the thumbnail as it is."""
        return thumbnail


@dataclass(frozen=True, slots=True)
class ImageSource(_InOwnPixels):
    """An image file.

    Attributes:
        path: The file.
        max_megapixels: The size of the largest image that is read.
        um_per_px: The side of a pixel in µm by slides.csv; None if it does not tell.
    """

    path: Path
    max_megapixels: float
    um_per_px: float | None = None

    survey_round: ClassVar[int] = 0
    reading_stage: ClassVar[Stage] = Stage.READ

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def open(self) -> OpenField:
        """Read the file."""
        file_stat = get_file_stat(self.path)
        data = read_image_bytes(self.path, self.max_megapixels)
        sha256 = hashlib.sha256(data).hexdigest()
        decode = partial(decode_rgb, data, self.max_megapixels)
        return OpenField(sha256, file_stat, header_megapixels(data), decode, self.um_per_px or read_um_per_px(data))


@dataclass(frozen=True, slots=True)
class ZoneSource:
    """A zone of a scan.

    Attributes:
        scan: The open scan.
        tile: The zone, in pixels of level 0.
        level: The level that is read.
        slack_px: How far outside its core a cell's center may lie, in pixels of level 0, so that a cell on the seam of
            two zones is lost in neither.
        um_per_px: The side of a pixel of the level in µm; None if only the red cells tell.
        survey_round: The number of the round of the survey that found it.
    """

    scan: Scan
    tile: Tile
    level: Level
    slack_px: float
    um_per_px: float | None
    survey_round: int

    reading_stage: ClassVar[Stage] = Stage.READ

    @property
    def name(self) -> str:
        """The zone's name: where its core begins in level 0."""
        return name_zone(self.tile)

    def open(self) -> OpenField:
        """Read the zone's pixels, by which it is known."""
        rgb = self.scan.read(self.tile.frame, self.level)
        return OpenField(hashlib.sha256(rgb.tobytes()).hexdigest(), None, rgb.size / 3e6, lambda: rgb, self.um_per_px)

    def select_own(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return the detections whose centers lie in the zone's core, or at most ``slack_px`` outside it."""
        placed = self.place(detections)
        pairs = zip(detections, placed, strict=True)
        return tuple(d for d, in_scan in pairs if holds_center(self.tile.core, in_scan, self.slack_px))

    def place(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Return detections of the zone in pixels of level 0."""
        scan = self.scan
        scaled = (replace(d, box=_scale_box(d.box, self.level.downsample)) for d in detections)
        return tuple(place_detection(d, self.tile.frame, scan.width, scan.height) for d in scaled)

    def is_on_seam(self, detection: Detection) -> bool:
        """Return whether the center of a cell lies at most ``slack_px`` inside the zone's core, or outside it."""
        return not holds_center(self.tile.core, detection, -self.slack_px)

    def place_thumbnail(self, thumbnail: FieldThumbnail) -> FieldThumbnail:
        """Return the thumbnail with the zone's place in level 0."""
        frame = self.tile.frame
        return replace(thumbnail, x=frame.x, y=frame.y, width=frame.width, height=frame.height)


@dataclass(frozen=True, slots=True)
class FailedSource(_InOwnPixels):
    """A scan, or a zone of it, that cannot be read; it becomes a failed field.

    Attributes:
        name: The name of the scan's file, or of the zone.
        error: Why.
        survey_round: The number of the round of the survey that found it; -1 before the first.
    """

    name: str
    error: Exception
    survey_round: int = 0

    reading_stage: ClassVar[Stage] = Stage.SURVEY

    def open(self) -> OpenField:
        """Raise the error."""
        raise self.error


def name_zone(tile: Tile) -> str:
    """Return the name of a zone: where its core begins in level 0.

    >>> name_zone(Tile(Box(0, 24, 1100, 1100), Box(76, 100, 948, 948), 76))
    'zone-x76-y100'
    """
    return f"zone-x{tile.core.x}-y{tile.core.y}"


def _scale_box(box: Box, factor: float) -> Box:
    """Return a box with all its edges multiplied by a factor and rounded to whole pixels."""
    left, top = round(box.x * factor), round(box.y * factor)
    right, bottom = round((box.x + box.width) * factor), round((box.y + box.height) * factor)
    return Box(left, top, right - left, bottom - top)

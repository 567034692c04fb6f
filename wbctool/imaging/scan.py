"""Whole-slide scans: the one module that uses openslide.

Only regions of the pyramid are read. The label and the macro image, which show patients' names, are never opened.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import FieldUnreadable
from wbctool.imaging.icc import convert_to_srgb
from wbctool.imaging.physical_size import check_um_per_px
from wbctool.optional import require_extra
from wbctool.types.cells import Box

if TYPE_CHECKING:
    from openslide import OpenSlide

    from wbctool.types.arrays import Rgb

SCAN_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif"})
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
_TIFF_SUFFIXES = frozenset({".tif", ".tiff", ".btf", ".tf8"})
_MRXS = ".mrxs"
_OPAQUE = 255


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a pyramid.

    Attributes:
        index: Its number, from 0.
        downsample: How many pixels of level 0 the side of one of its pixels has.
    """

    index: int
    downsample: float


@cache
def can_read_scans() -> bool:
    """Return whether openslide is installed."""
    return find_spec("openslide") is not None


def is_scan(path: Path) -> bool:
    """Return whether a file is a scan that is read: a visible one with a scanner's ending, or a TIFF with a pyramid."""
    suffix = path.suffix.lower()
    if suffix not in SCAN_SUFFIXES | _TIFF_SUFFIXES or path.name.startswith(".") or not can_read_scans():
        return False
    return path.is_file() and (suffix in SCAN_SUFFIXES or _has_pyramid(path))


def is_dicom_scan(path: Path) -> bool:
    """Return whether a file is a part of a scan in DICOM."""
    if path.suffix.lower() not in DICOM_SUFFIXES or not can_read_scans():
        return False
    from openslide import OpenSlide, OpenSlideError

    with suppress(OpenSlideError):
        return OpenSlide.detect_format(path) == "dicom"
    return False


def companion_folder(path: Path) -> Path | None:
    """Return the folder that belongs to a scan, as MIRAX has one beside its file; None if there is none."""
    folder = path.with_suffix("")
    return folder if path.suffix.lower() == _MRXS and folder.is_dir() else None


class Scan:
    """An open scan. It may be read in several threads, and be pickled: a copy opens the file when it first reads.

    Attributes:
        bounds: The part of level 0 that was scanned.
        width: Width of level 0 in pixels.
        height: Height of level 0 in pixels.
        levels: The levels, the finest first.
        um_per_px: The side of a pixel of level 0 in µm by the file's metadata; None if they do not tell.
    """

    def __init__(self, path: Path) -> None:
        """Open a scan.

        Args:
            path: Its file, or one file of a DICOM series.

        Raises:
            MissingDependency: openslide is not installed.
            FieldUnreadable: The file is no scan, or damaged.
        """
        self._path = path
        handle = self._open()
        self._handle: OpenSlide | None = handle
        self.width, self.height = handle.dimensions
        self.levels = tuple(Level(*pair) for pair in enumerate(handle.level_downsamples))
        properties = handle.properties
        self.um_per_px = _read_um_per_px(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"))
        names = ("x", "y", "width", "height")
        bounds = [properties.get(f"openslide.bounds-{name}") for name in names]
        self.bounds = Box(*map(int, map(str, bounds))) if all(bounds) else Box(0, 0, self.width, self.height)
        profile = handle.color_profile
        self._profile = None if profile is None else profile.tobytes()

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the open file."""
        return {**self.__dict__, "_handle": None}

    def choose_level(self, max_downsample: float) -> Level:
        """Return the coarsest level up to a downsample; the finest if all are above."""
        fine_enough = (level for level in self.levels if level.downsample <= max_downsample)
        return max(fine_enough, key=lambda level: level.downsample, default=self.levels[0])

    def read(self, region: Box, level: Level) -> Rgb:
        """Read a region.

        Args:
            region: The region, in pixels of level 0.
            level: The level to read from.

        Returns:
            (H, W, 3) uint8 sRGB, in pixels of the level; what was not scanned is white.

        Raises:
            FieldUnreadable: The file is damaged there, or its color profile cannot be read.
        """
        from openslide import OpenSlideError

        width, height = (max(1, round(side / level.downsample)) for side in (region.width, region.height))
        where = (region.x, region.y), level.index, (width, height)
        try:
            handle = self._handle or self._open()
            image = handle.read_region(*where)
        except OpenSlideError:
            # A handle that has met damage refuses every later call, also those of other threads. So each thread tries
            # a handle of its own, and leaves it to the others only if it is good.
            handle = self._open()
            try:
                image = handle.read_region(*where)
            except OpenSlideError as error:
                raise FieldUnreadable(f"the scan is damaged here: {_one_line(error)}") from error
        self._handle = handle
        rgb = _over_white(np.asarray(image))
        return rgb if self._profile is None else convert_to_srgb(rgb, self._profile)

    def _open(self) -> OpenSlide:
        """Open the file."""
        with require_extra("wsi", f"the scan {self._path.name}"):
            from openslide import OpenSlide, OpenSlideError, OpenSlideUnsupportedFormatError

        try:
            return OpenSlide(self._path)
        except OpenSlideUnsupportedFormatError as error:
            raise FieldUnreadable("not a whole-slide scan of a kind that is read, or damaged") from error
        except OpenSlideError as error:
            raise FieldUnreadable(f"the scan is damaged or incomplete: {_one_line(error)}") from error
        except OSError as error:
            raise FieldUnreadable(f"cannot be read: {error.strerror or error}") from error


def _over_white(rgba: NDArray[np.uint8]) -> Rgb:
    """Lay (H, W, 4) pixels over white, which stands for what was not scanned."""
    rgb, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == _OPAQUE:
        return np.ascontiguousarray(rgb)
    wide = alpha.astype(np.uint16)
    return ((rgb * wide + _OPAQUE * (_OPAQUE - wide)) // _OPAQUE).astype(np.uint8)


def _has_pyramid(path: Path) -> bool:
    """Return whether openslide knows a TIFF as a scan of several levels."""
    from openslide import OpenSlide, OpenSlideError

    with suppress(OpenSlideError, OSError):
        if OpenSlide.detect_format(path) is not None:
            with OpenSlide(path) as slide:
                return slide.level_count > 1
    return False


def _read_um_per_px(x: str | None, y: str | None) -> float | None:
    """Return the side of a pixel if both sides are given, alike, and possible."""
    try:
        return check_um_per_px(float(x or ""), float(y or ""))
    except ValueError:
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""The size of a pixel by an image's own metadata: OME, ImageJ, or the resolution tags of a TIFF."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from wbctool.imaging.tiff import find_main_page, is_tiff, open_tiff

if TYPE_CHECKING:
    from tifffile import TiffFile

_MIN_UM_PER_PX, _MAX_UM_PER_PX = 0.02, 2.0  # what else is written is no microscope's, such as 72 pixels an inch
_UM_BY_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_UM_BY_RESOLUTION_UNIT = {2: 25400.0, 3: 10000.0}  # an inch, a centimeter
_OME_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b[^>]*>")
_MAX_ASPECT = 1.02


def read_um_per_px(data: bytes) -> float | None:
    """Read the side of a pixel.

    Args:
        data: The content of an image file.

    Returns:
        The side in µm; None if the file does not tell, or tells what no microscope has.
    """
    if not is_tiff(data):
        return None
    try:
        with open_tiff(data) as file:
            return check_um_per_px(*_read_sides(file))
    except Exception:  # metadata touch no pixel
        return None


def check_um_per_px(x: float, y: float) -> float | None:
    """Return the side of a pixel if both sides are alike and possible, in µm."""
    side = (x + y) / 2
    is_square = max(x, y) <= _MAX_ASPECT * min(x, y)
    return side if is_square and _MIN_UM_PER_PX <= side <= _MAX_UM_PER_PX else None


def _read_sides(file: TiffFile) -> tuple[float, float]:
    """Return width and height of a pixel in µm; raises what a missing or broken entry raises."""
    if file.is_ome:
        pixels = _OME_PIXELS.search(file.ome_metadata or "")
        return _read_ome_side(pixels, "X"), _read_ome_side(pixels, "Y")
    page: Any = find_main_page(file)  # a thumbnail before it has a resolution of its own
    per_unit = [numerator / denominator for numerator, denominator in map(page.tags.valueof, (282, 283))]
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    if unit is not None:
        text = str(unit).encode("latin-1", "replace").decode("unicode_escape")
        um = _UM_BY_UNIT[text]
    else:
        um = _UM_BY_RESOLUTION_UNIT[int(page.tags.valueof(296, 2))]
    return um / per_unit[0], um / per_unit[1]


def _read_ome_side(pixels: re.Match[str] | None, axis: str) -> float:
    """Return one side of a pixel of an OME image in µm."""
    entry = pixels.group() if pixels else ""
    unit = re.search(rf'PhysicalSize{axis}Unit="([^"]*)"', entry)
    side = re.search(rf'PhysicalSize{axis}="([^"]*)"', entry)
    return float(side[1] if side else "nan") * _UM_BY_UNIT[unit[1] if unit else "µm"]

"""Whether a field can be a stained smear at all: its brightness, its colors, the order of its pixels, and damage.

A file can decode without an error and still show no smear: a gray camera's picture saved as RGB, red and blue
exchanged, a negative, pixels in the wrong order. Colors are judged as absorbance relative to the glass, which no lamp
and no exposure changes and a camera's gamma only scales. A blank field of glass is plausible. What is not certain
passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.errors import FieldImplausible, FieldWronglySaved
from wbctool.imaging.frame import find_image_area
from wbctool.imaging.integrity import describe_missing
from wbctool.imaging.jpeg_damage import describe_jpeg_damage
from wbctool.imaging.overlays import find_overlays
from wbctool.imaging.resize import downscale
from wbctool.stages.pixel_order import find_disorder
from wbctool.types.cells import Field

_LONG_SIDE_PX = 128  # colors are measured in the field reduced to this longer side
_MIN_BRIGHT = 85  # of 255; at 75 the detector loses the cells of a field in which it finds all at full brightness
_MIN_BRIGHT_SHARE = 0.15  # of the picture; what is bright on less of it is a label or a reflection
_BORDER_SHARE = 0.12  # of the brightness; darker pixels are a black border, a vignette or bars, no smear
_MIN_SMEAR_SHARE = 0.02  # of the pixels; of less nothing is concluded
_MIN_DARK_SHARE, _MAX_FILLED_SHARE = 0.15, 0.7  # of the pixels; of the hull of what is bright, which fills a frame
_MIN_ABSORBANCE = 0.04  # of the darkest pixels; below, a field is blank glass, which has no color of its own
_MAX_GRAY_CHROMA = 0.1  # of the absorbance; red cells alone have 0.4
_MAX_CONSTANT_STD = 1.0  # gray levels
_OVEREXPOSED = 250  # of 255
_MAX_COPY_DIFFERENCE = 0.7  # gray levels, on average
_MIN_VARIED_STD = 6.0  # gray levels
_MIN_GREEN_EXCESS = 0.04  # of the absorbance; eosin, azure B and hemoglobin together have 0.16 or more
_MAX_GREEN_DEFICIT = 1.2  # of the excess; overlays reach 0.15
_GLASS_VARIATION = 0.13  # of the span from dark to bright; this and the next three tell the glass of a negative
_MAX_GLASS_DISTANCE = 0.34  # of the span, from the darkest; red cells that are smoother than the glass have 0.36
_MAX_DARKER_SHARE, _MIN_NEGATIVE_GLASS_SHARE = 0.12, 0.3  # of the pixels
_MAX_NUCLEUS_SHARE = 0.22  # of the cells' area; with more purple, the field may have red cells alone
_MIN_NUCLEUS_ABSORBANCE, _DENSE_ABSORBANCE = 0.12, 0.5  # faint cells tell nothing; no red cell is as dense
_MIN_BLUE_EXCESS, _SURE_BLUE_EXCESS = 1.0, 3.0  # pale red cells alone reach 2.3

_CHANNELS = ("red", "green", "blue")
_SAVE_AS_RGB = "check the color settings of the camera and the export, and save the image again as 8-bit RGB"
_ABSORBANCE = -np.log10((np.arange(256, dtype=np.float32) + 1) / 256)


@dataclass(frozen=True, slots=True)
class SmearColors:
    """The colors of a field, as absorbance above that of the glass.

    Attributes:
        absorbance: The mean of the three channels in the darkest pixels.
        chroma: How far the channels differ, as a share of ``absorbance``.
        green_excess: How much more green than red and blue the cells absorb, as a share of their absorbance; the larger
            of all and the darkest, which suffer less if the glass is overexposed.
        green_deficit: The deficit of the pixels that absorb the least green, as a share of the excess of those that
            absorb the most; a smear has next to none.
        nucleus_absorbance: The absorbance of the most purple pixels, which are nuclei if the field has any.
        nucleus_share: The share of the cells' area that is as purple.
        blue_excess: How much more blue than red these pixels absorb, alone and compared with the red cells, in
            multiples of their absorbance of red and blue. Negative for nuclei.
        green_level: The median green of the darkest pixels, 0 to 255. If even these are overexposed, nothing is known
            of the absorbance.
        red_level: The median red of the most purple pixels, the same way.
    """

    absorbance: float
    chroma: float
    green_excess: float
    green_deficit: float
    nucleus_absorbance: float
    nucleus_share: float
    blue_excess: float
    green_level: float
    red_level: float


def check_plausibility(field: Field) -> None:
    """Check that a field can be a photograph of a stained smear.

    Args:
        field: The field, (H, W, 3) uint8 RGB.

    Raises:
        FieldImplausible: It cannot be one; the message says what it looks like and what to do.
        FieldWronglySaved: It cannot be one, because its colors or the order of its pixels are wrong.
    """
    error = find_implausibility(field.rgb)
    if error is not None:
        raise error


def find_implausibility(rgb: NDArray[np.uint8]) -> FieldImplausible | None:
    """Return why an image, (H, W, 3) uint8 RGB, cannot be a stained smear, and what to do; None if it can."""
    if missing := describe_missing(rgb):
        return FieldImplausible(
            f"{missing} are of the gray that programs show for missing data; the original was incomplete as it was "
            "saved, so copy or export it again"
        )
    reduced = _reduce(rgb)
    red, green, blue = cv2.split(reduced)
    brightest, image_area = np.asarray(cv2.max(cv2.max(red, green), blue)), find_image_area(reduced)
    lit = brightest if image_area is None else brightest[image_area]
    brightness = _measure_brightness(lit.astype(np.uint8, copy=False))
    if brightness < _MIN_BRIGHT:
        return FieldImplausible(
            f"the picture is too dark for a smear (its glass has {brightness:.0f} of 255); check the lamp and the "
            f"exposure, or the number of bits in the export, and save the image again"
        )
    smear = brightest > max(8.0, _BORDER_SHARE * brightness)
    if _has_dark_ground(smear):
        return FieldWronglySaved(
            "the ground is dark and the cells are bright, as in a negative or in dark field; turn inversion off, or "
            "photograph in bright field"
        )
    if image_area is not None:
        smear &= image_area
    without_overlays = smear & ~find_overlays(rgb, smear.shape)
    if without_overlays.mean() < _MIN_SMEAR_SHARE:
        return None
    complaint = (
        _find_lost_channel(rgb, reduced, smear)
        or find_disorder(rgb, reduced, smear)
        or _find_wrong_colors(reduced, smear, without_overlays)
    )
    if complaint is not None:
        return FieldWronglySaved(complaint)
    if place := describe_jpeg_damage(rgb):
        return FieldImplausible(
            f"{place} the picture changes its brightness or color within the cells, as behind a damaged place of a "
            "JPEG; copy or export it again"
        )
    return None


def _measure_brightness(brightest: NDArray[np.uint8]) -> float:
    """Return the brightness of the glass, of the brightest channel of each pixel.

    What is at least twice as bright as more than 85 % of the picture is no glass, but a label or a reflection.
    """
    brightness = float(np.quantile(brightest, 0.98))
    rest = brightest[brightest < brightness / 2]
    is_glass = rest.size <= (1 - _MIN_BRIGHT_SHARE) * brightest.size
    return brightness if is_glass else float(np.quantile(rest, 0.98))


def measure_colors(pixels: NDArray[np.uint8]) -> SmearColors:
    """Measure the colors of a field's pixels.

    Args:
        pixels: (N, 3) uint8 RGB, without a black border.

    Returns:
        The colors.
    """
    red, green, blue = (_ABSORBANCE[channel] for channel in np.ascontiguousarray(pixels.T))
    mean = (red + green + blue) / 3
    low, high = np.quantile(mean, (0.03, 0.15))
    glass = (mean >= low) & (mean <= high)
    for channel in (red, green, blue):
        channel -= np.median(channel[glass])
    mean = (red + green + blue) / 3
    red_and_blue = (red + blue) / 2
    green_excess, blue_excess = green - red_and_blue, blue - red
    absorbance, highest = np.quantile(mean, (0.98, 0.99))
    darkest = mean >= highest
    deficit, excess = np.quantile(green_excess, (0.01, 0.99))
    chroma = np.hypot(green_excess - np.median(green_excess), blue_excess - np.median(blue_excess))
    stained = mean > 0.3 * absorbance
    nuclei = green_excess >= excess
    density = float(np.median(mean[nuclei]))
    cells = mean > 0.25 * density
    others = cells & (green_excess < 0.5 * excess)
    scale = max(float(np.median(red_and_blue[nuclei])), 0.2 * density, 1e-3)
    nucleus_blue = float(np.median(blue_excess[nuclei]))
    other_blue = float(np.median(blue_excess[others])) if others.any() else nucleus_blue
    return SmearColors(
        absorbance=float(absorbance),
        chroma=float(np.quantile(chroma, 0.99)) / max(float(absorbance), 1e-3),
        green_excess=max(
            float(green_excess[those].sum()) / max(float(mean[those].sum()), 1e-3) for those in (stained, darkest)
        ),
        green_deficit=-float(deficit) / max(float(excess), 0.01),
        nucleus_absorbance=density,
        nucleus_share=1 - float(others.sum()) / max(int(cells.sum()), 1),
        blue_excess=(2 * nucleus_blue - other_blue) / scale,
        green_level=float(np.median(pixels[darkest, 1])),
        red_level=float(np.median(pixels[nuclei, 0])),
    )


def _reduce(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image at the scale for colors."""
    height, width = rgb.shape[:2]
    scale = min(1.0, _LONG_SIDE_PX / max(height, width))
    return downscale(rgb, max(1, round(width * scale)), max(1, round(height * scale)))


def _pixels(reduced: NDArray[np.uint8], smear: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the pixels of the smear, (N, 3); fast if it is all of the image, as in most fields."""
    return reduced.reshape(-1, 3) if smear.all() else reduced[smear]


def _has_dark_ground(bright: NDArray[np.bool_]) -> bool:
    """Return whether bright cells lie scattered on black, where glass would be, and do not fill a frame."""
    if 1 - bright.mean() < _MIN_DARK_SHARE or not bright.any():
        return False
    hull = cv2.convexHull(np.argwhere(bright).astype(np.int32))
    return float(bright.sum()) < _MAX_FILLED_SHARE * cv2.contourArea(hull)


def _find_lost_channel(rgb: NDArray[np.uint8], reduced: NDArray[np.uint8], smear: NDArray[np.bool_]) -> str | None:
    """Complain about a color channel that is constant, or the same as one other."""
    means, deviations = (a.ravel() for a in cv2.meanStdDev(reduced, mask=smear.astype(np.uint8)))
    if deviations.max() < _MIN_VARIED_STD:
        return None
    lost = [
        name
        for i, name in enumerate(_CHANNELS)
        if deviations[i] < _MAX_CONSTANT_STD
        # An overexposed channel has some darker pixels left.
        and (means[i] < _OVEREXPOSED or rgb[..., i].min() == 255)
    ]
    if lost:
        return f"the {' and '.join(lost)} channel holds no picture; {_SAVE_AS_RGB}"
    pixels = _pixels(reduced, smear).astype(np.int16)
    copies = [
        f"{_CHANNELS[i]} and {_CHANNELS[j]}"
        for i, j in ((0, 1), (0, 2), (1, 2))
        if means[[i, j]].min() < _OVEREXPOSED and np.abs(pixels[:, i] - pixels[:, j]).mean() < _MAX_COPY_DIFFERENCE
    ]
    return f"the {copies[0]} channels hold the same picture; {_SAVE_AS_RGB}" if len(copies) == 1 else None


def _find_wrong_colors(
    reduced: NDArray[np.uint8], smear: NDArray[np.bool_], without_overlays: NDArray[np.bool_]
) -> str | None:
    """Complain about colors that no stain has."""
    colors = measure_colors(_pixels(reduced, without_overlays))
    if colors.absorbance < _MIN_ABSORBANCE:
        return None
    if colors.chroma < _MAX_GRAY_CHROMA:
        return (
            "a gray picture saved as RGB; stained cells are told apart by color, so photograph with a color camera, or "
            "export its colors"
        )
    if _is_negative(reduced, smear):
        return "a negative: the glass is darker than the cells; turn inversion off and save the image again"
    if colors.green_level < _OVEREXPOSED and (
        colors.green_excess < _MIN_GREEN_EXCESS or colors.green_deficit > _MAX_GREEN_DEFICIT
    ):
        return (
            "no stain has these colors (cells of a stained smear absorb green the most): the color channels seem to be "
            "exchanged, or not to be RGB; export 8-bit RGB"
        )
    if _has_exchanged_red_and_blue(colors):
        return "red and blue are exchanged (BGR saved as RGB): nuclei absorb more blue than red; export 8-bit RGB"
    return None


def _has_exchanged_red_and_blue(colors: SmearColors) -> bool:
    """Return whether what must be nuclei absorbs blue as only red cells do."""
    if colors.red_level > _OVEREXPOSED:
        return False
    if colors.blue_excess > _SURE_BLUE_EXCESS:
        return True
    has_nuclei = colors.nucleus_absorbance > _DENSE_ABSORBANCE or (
        colors.nucleus_share < _MAX_NUCLEUS_SHARE and colors.nucleus_absorbance > _MIN_NUCLEUS_ABSORBANCE
    )
    return has_nuclei and colors.blue_excess > _MIN_BLUE_EXCESS


def _is_negative(reduced: NDArray[np.uint8], smear: NDArray[np.bool_]) -> bool:
    """Return whether the smoothest pixels, which are glass in a smear, are the dark ground of the picture."""
    gray = cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY)
    roughness = cv2.blur(cv2.morphologyEx(gray, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), (5, 5))
    inner = cv2.erode(smear.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    levels, roughness = gray[inner], roughness[inner]
    if not levels.size:
        return False
    glass = _ABSORBANCE[round(float(np.median(levels[roughness <= np.quantile(roughness, 0.15)])))]
    dark, bright = _ABSORBANCE[np.quantile(levels, (0.02, 0.98)).astype(np.uint8)]
    span = max(float(dark - bright), 1e-3)
    above_glass = (_ABSORBANCE[levels] - glass) / span
    return (
        float(dark - glass) < _MAX_GLASS_DISTANCE * span
        and float((above_glass > _GLASS_VARIATION).mean()) < _MAX_DARKER_SHARE
        and float((np.abs(above_glass) < _GLASS_VARIATION).mean()) > _MIN_NEGATIVE_GLASS_SHARE
    )

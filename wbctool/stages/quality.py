"""How good a field is: focus, crowding, and colours against those of the training. Pure; nothing learnt.

Focus is the width of the cells' sharpest edges after Zhuo and Sim 2011 (Pattern Recognition 44:1852, doi
10.1016/j.patcog.2011.03.009): blurring an edge of Gaussian width s once more by s0 lowers its gradient by the ratio
r = sqrt(s² + s0²) / s, so s = s0 / sqrt(r² - 1). Unlike the sharpness measures that Pertuz et al. 2013 compare (doi
10.1016/j.patcog.2012.11.011; variance of the Laplacian among them) it needs no second picture of the same place, and
has a unit: with red cells of 7.5 µm as the scale it is µm of smear, whatever camera and field. The lens alone gives
about 0.21 λ/NA, 0.09 µm for an oil immersion objective.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wbctool.cards import ColourRange
from wbctool.records import Box, Detection, Field, Target
from wbctool.settings import Limits
from wbctool.slide_facts import FieldQuality, Lab
from wbctool.stages.shrink import shrink

RED_CELL_UM = 7.5  # the mean diameter of a red cell in a dried smear
_SMALLEST_RED_CELL_UM, _LARGEST_RED_CELL_UM = 4.5, 12.0  # medians beyond which no anaemia brings a field
_RED_CELL_PX = 130  # the scale at which edges are measured; coarser ones blurred them more than a lens does
_MOST_PATCH_PX = 800  # at that scale: 46 µm, more than any cell measures
_MOST_CELLS = 8  # whose edges are measured: all of them give the same within some 7 %, in three times the time
_SHARPEST = 0.05  # the share of the cells' pixels that counts as edges
_SAMPLED = 16  # quantiles are those of each 16th pixel: sorting all takes longer than the rest together
_EXTRA_BLUR_PX, _MORE_BLUR_PX, _WIDE_PX = 1.0, 3.0, 3.3
_MARGIN = 0.15  # around a cell's box, in which the outer half of a blurred edge lies
_COLOUR_PX = 256  # the longer side of the picture that colours and crowding are read from
_CLEAR = 0.98  # the quantile of green light that is that of no cell
_THUMBNAIL_PX = 16
_ENOUGH_FIELDS = 5  # for a slide's median to say what its fields should be like

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]


def measure_field(
    field: Field, found: Sequence[Detection], colours: Collection[ColourRange], um_per_px: float | None = None
) -> FieldQuality:
    """A field's quality, not yet held against limits.

    found: its nucleated and red cells. colours: of the training data, by origin. um_per_px: None to take the field's
    own red cells as the scale.
    """
    cells = [d for d in found if d.target is not Target.PLATELET]
    own_pitch_um = _pitch_um(cells)
    pitch_um = um_per_px or own_pitch_um
    blur_px = None if pitch_um is None else blur_of(field, [d.box for d in cells], pitch_um)
    small, scale = _reduced(field)
    red = _under([d.box for d in cells if d.target is Target.RED_CELL], small.shape, scale)
    nucleated = _under([d.box for d in cells if d.target is Target.NUCLEATED], small.shape, scale)
    background, of_cells = _median_lab(small, ~(red | nucleated), _SAMPLED), _median_lab(small, nucleated)
    return FieldQuality(
        field=field.name,
        blur_um=None if blur_px is None or pitch_um is None else blur_px * pitch_um,
        blur_px=blur_px,
        cover=cover_of(small[..., 1], red & ~nucleated, nucleated),
        background=background,
        cells=of_cells,
        stain_de=colour_distance(background, of_cells, colours),
        red_cell_um=RED_CELL_UM * um_per_px / own_pitch_um if um_per_px and own_pitch_um else None,
        thumbnail=thumbnail(small).tobytes() if any(d.target is Target.NUCLEATED for d in cells) else b"",
    )


def judge_fields(fields: Sequence[FieldQuality], limits: Limits) -> tuple[FieldQuality, ...]:
    """A slide's fields held against the limits, and for focus against their own median too; and against each other.

    Where red cells say that the scale is wrong, focus is not judged.
    """
    fields = [replace(f, misscaled=_cannot_be(f.red_cell_um)) for f in fields]
    same_as = first_alike(fields, limits.duplicate_correlation)
    measured = [f.blur_um for f in fields if f.blur_um is not None]
    relative = limits.blur_ratio * float(np.median(measured)) if len(measured) >= _ENOUGH_FIELDS else np.inf
    limit_um = min(limits.blur_um, relative)
    return tuple(
        replace(
            f,
            blurred=not f.misscaled
            and f.blur_um is not None
            and f.blur_px is not None
            and f.blur_um > limit_um
            and f.blur_px > limits.blur_px,
            crowded=f.cover is not None and f.cover > limits.crowded_cover,
            strange=f.stain_de is not None and f.stain_de > limits.stain_de,
            same_as=same_as.get(f.field, ""),
            thumbnail=b"",
        )
        for f in fields
    )


def _cannot_be(red_cell_um: float | None) -> bool:
    return red_cell_um is not None and not _SMALLEST_RED_CELL_UM < red_cell_um < _LARGEST_RED_CELL_UM


def quality_flags(fields: Sequence[FieldQuality], limits: Limits) -> set[str]:
    """The flags that a slide's judged fields raise."""
    flags = set()
    if sum(f.blurred for f in fields) > limits.blurred_share * len(fields):
        flags.add("blurred_fields")
    if sum(f.crowded for f in fields) > limits.crowded_share * len(fields):
        flags.add("crowded_fields")
    if any(f.same_as for f in fields):
        flags.add("duplicate_fields")
    return flags


def blur_of(field: Field, cells: Sequence[Box], pitch_um: float) -> float | None:
    """The Gaussian sigma of the sharpest edges of some cells, in native pixels; None where there is no cell.

    A median filter comes first, for the noise of a camera looks like sharpness.
    """
    native = list(_patches(field.rgb, cells))
    if not native:
        return None
    longest_px = max(max(patch.shape) for patch in native)  # a wrong pitch must not cost all memory
    scale = float(min(_RED_CELL_PX * pitch_um / RED_CELL_UM, _MOST_PATCH_PX / longest_px))
    patches = [_scaled(patch, scale) for patch in native]
    width = _edge_width(patches, _EXTRA_BLUR_PX)
    if width > _WIDE_PX:  # so little more blur hardly changes wide edges, and noise outweighs it
        width = max(width, _edge_width(patches, _MORE_BLUR_PX))
    return width / scale


def cover_of(green: NDArray[np.uint8], red: NDArray[np.bool_], nucleated: NDArray[np.bool_]) -> float | None:
    """The share of a field that absorbs as much as half a red cell; None where there is no red cell.

    green: (H, W) uint8. red, nucleated: (H, W), where such cells were found; of the rest, and of cells that lie on
    each other, the detector finds only some, so their light counts and not their boxes.
    """
    if not red.any():
        return None
    around = cv2.dilate(nucleated.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    rest = green[~around]
    # The absorbance, log(clear / green), is half a red cell's where green is the geometric mean of clear and red.
    clear, of_red = np.quantile(green[::4, ::4], _CLEAR) + 1, np.median(green[red][::_SAMPLED]) + 1
    return float((rest + 1.0 < np.sqrt(clear * of_red)).mean()) if rest.size else None


def colour_distance(background: Lab | None, cells: Lab | None, ranges: Collection[ColourRange]) -> float | None:
    """How far a field's colours lie outside those of the origin they fit best: CIE76, the worse of the two.

    None where nothing is known of the training's colours. About 2 is what an eye just sees.
    """
    if not ranges or background is None:
        return None
    return min(
        max(
            _outside(background, r.background_low, r.background_high),
            0.0 if cells is None else _outside(cells, r.cells_low, r.cells_high),
        )
        for r in ranges
    )


def thumbnail(rgb: NDArray[np.uint8]) -> Floats:
    """(256,) float32 of mean 0 and length 1 (0 where a field is of one grey), for :func:`first_alike`.

    rgb: (H, W, 3) uint8, a field, reduced or not.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = shrink(grey.astype(np.uint8, copy=False), _THUMBNAIL_PX, _THUMBNAIL_PX).astype(np.float32).ravel()
    small -= small.mean()
    return (small / max(float(np.linalg.norm(small)), 1e-6)).astype(np.float32)


def first_alike(fields: Sequence[FieldQuality], correlation: float) -> dict[str, str]:
    """Of each field that shows what an earlier one does, the first that does: photographed or saved twice."""
    with_cells = [f for f in fields if f.thumbnail]
    if not with_cells:
        return {}
    all_of_them = np.stack([np.frombuffer(f.thumbnail, np.float32) for f in with_cells])
    found = {}
    for at, row in enumerate(all_of_them):
        alike = all_of_them[:at] @ row > correlation
        if alike.any():
            found[with_cells[at].field] = with_cells[int(alike.argmax())].field
    return found


def _pitch_um(cells: Sequence[Detection]) -> float | None:
    sides = [(d.box.width * d.box.height) ** 0.5 for d in cells if d.target is Target.RED_CELL and not d.cut_by_border]
    return RED_CELL_UM / float(np.median(sides)) if sides else None


def _patches(rgb: NDArray[np.uint8], cells: Sequence[Box]) -> Iterator[Grey]:
    """The green light of each cell, which haemoglobin and stained nuclei absorb most."""
    chosen = np.linspace(0, len(cells) - 1, min(len(cells), _MOST_CELLS)).round().astype(int)
    for box in (cells[index] for index in chosen.tolist()):
        margin = round(_MARGIN * box.side_px)
        top, left = max(0, box.y - margin), max(0, box.x - margin)
        patch = rgb[top : box.y + box.height + margin, left : box.x + box.width + margin, 1]
        if min(patch.shape) >= 3:
            yield np.ascontiguousarray(patch)


def _scaled(patch: Grey, scale: float) -> Grey:
    size = max(3, round(patch.shape[1] * scale)), max(3, round(patch.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(cv2.medianBlur(patch, 3), size, interpolation=how).astype(np.uint8, copy=False)


def _edge_width(patches: Sequence[Grey], extra_px: float) -> float:
    """The median width of the sharpest edges, in the patches' pixels. extra_px: the sigma they are blurred by."""
    before = _squared_gradients(patches)
    after = _squared_gradients([cv2.GaussianBlur(p.astype(np.float32), (0, 0), extra_px) for p in patches])
    edges = np.flatnonzero(before >= np.quantile(before[::_SAMPLED], 1 - _SHARPEST))
    squared_ratio = float(np.median(before[edges] / np.maximum(after[edges], 1e-6)))
    return float(extra_px / np.sqrt(max(squared_ratio - 1, 1e-3)))


def _squared_gradients(patches: Sequence[NDArray[Any]]) -> Floats:
    """Of all pixels of uint8 or float32 patches, (n,): edges are told apart as well by the square, without a root."""
    squared = np.empty(sum(patch.size for patch in patches), np.float32)
    end = 0
    for patch in patches:
        start, end = end, end + patch.size
        depth = cv2.CV_16S if patch.dtype == np.uint8 else cv2.CV_32F  # whole numbers are four times as fast
        across, down = (cv2.Scharr(patch, depth, *axis).ravel().astype(np.float32) for axis in ((1, 0), (0, 1)))
        # Not cv2.magnitude, whose last digits hang on where in memory its input lies; and in place, for new memory
        # costs more than the sums.
        np.multiply(across, across, out=squared[start:end])
        down *= down
        squared[start:end] += down
    return squared


def _reduced(field: Field) -> tuple[NDArray[np.uint8], float]:
    height, width = field.rgb.shape[:2]
    scale = min(1.0, _COLOUR_PX / max(height, width))
    return shrink(field.rgb, max(1, round(width * scale)), max(1, round(height * scale))), scale


def _under(boxes: Sequence[Box], shape: tuple[int, ...], scale: float) -> NDArray[np.bool_]:
    """Where cells lie, as ellipses in their boxes."""
    mask = np.zeros(shape[:2], np.uint8)
    for box in boxes:
        centre = round(box.centre[0] * scale), round(box.centre[1] * scale)
        cv2.ellipse(mask, centre, (round(box.width * scale / 2), round(box.height * scale / 2)), 0, 0, 360, 1, -1)
    return mask > 0


def _median_lab(rgb: NDArray[np.uint8], where: NDArray[np.bool_], step: int = 1) -> Lab | None:
    """Of each ``step``-th of the pixels ``where``; None where there are none. rgb: (H, W, 3). where: (H, W)."""
    chosen = np.flatnonzero(where)[::step]
    if not len(chosen):
        return None
    lab = cv2.cvtColor(rgb.reshape(-1, 3)[chosen][None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness, a, b = np.median(lab, axis=0).tolist()
    return lightness, a, b


def _outside(colour: Lab, low: Lab, high: Lab) -> float:
    away = np.maximum(np.maximum(np.subtract(low, colour), np.subtract(colour, high)), 0)
    return float(np.linalg.norm(away))

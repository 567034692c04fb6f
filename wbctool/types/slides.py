"""The records of what is known of a slide beside its cells: what the laboratory says of it, how good its fields are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CieLab = tuple[float, float, float]
"""CIELAB: L* 0 to 100, a* and b*; sRGB taken with its own white (D65)."""


class Sex(StrEnum):
    """As FHIR's administrative gender has it."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SlideMetadata:
    """One slide's line of slides.csv; None where the line says nothing.

    age: in years. analyser_wbc: the analyser's white cells, 10⁹/L. um_per_px: the side of a pixel in the smear.
    """

    accession: str | None = None
    patient: str | None = None
    age: float | None = None
    sex: Sex | None = None
    analyser_wbc: float | None = None
    objective: str | None = None
    stain: str | None = None
    um_per_px: float | None = None


@dataclass(frozen=True, slots=True)
class FieldQuality:
    """How good one field is.

    max_blur_um: the Gaussian sigma of its cells' sharpest edges, in µm of smear; None where nothing tells its scale.
    min_blur_px: the same in native pixels. coverage: the share of the field, nucleated cells left out, that absorbs as much
    green light as half a red cell; None where there is no red cell. background_color, cell_color: CIELAB of what lies between the
    cells, and of nucleated cells; None where there is none. stain_delta_e: how far the colours are from those the detector
    was trained on (CIE76); None where its card does not know them. blurred, crowded, stain_out_of_range: whether a limit of the
    settings is passed. red_cell_um: the median diameter of its red cells in the laboratory's own scale; None where it
    gave none, or there is no red cell. scale_mismatch: whether no red cell can be so large or so small. duplicate_of: the first
    field that shows the same cells; empty where none does. thumbnail: by which that is told, until it is; empty where
    the field has no nucleated cell, for empty fields are all alike.
    """

    field: str
    blur_um: float | None
    blur_px: float | None
    coverage: float | None
    background_color: CieLab | None
    cell_color: CieLab | None
    stain_delta_e: float | None
    blurred: bool = False
    crowded: bool = False
    stain_out_of_range: bool = False
    red_cell_um: float | None = None
    scale_mismatch: bool = False
    duplicate_of: str = ""
    thumbnail: bytes = b""

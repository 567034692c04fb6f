"""What is known of a slide besides its cells: the laboratory's metadata and the quality of its fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

CieLab = tuple[float, float, float]
"""A CIELAB color: L* in [0, 100], a* and b*; of sRGB with its own white point (D65)."""


class Sex(StrEnum):
    """The sex of a patient, as FHIR's administrative gender."""

    FEMALE = "female"
    MALE = "male"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SlideMetadata:
    """One slide's row of slides.csv. A field is None if its column is missing or empty.

    Attributes:
        accession: The accession number.
        patient: The patient's identifier.
        age: The patient's age, in years.
        sex: The patient's sex.
        analyser_wbc: The analyzer's white cell count, in 10⁹/L.
        objective: The microscope's objective.
        stain: The stain.
        um_per_px: The side of a pixel, in µm of smear.
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
class FieldColors:
    """The median colors of a field, in CIELAB.

    Attributes:
        background: The color of what lies between the cells; None if nothing does.
        cells: The color of the nucleated cells; None without any.
    """

    background: CieLab | None
    cells: CieLab | None


@dataclass(frozen=True, slots=True)
class FieldQuality:
    """The quality of one field.

    Attributes:
        field: The field's name.
        blur_um: The Gaussian sigma of its cells' sharpest edges, in µm of smear; None if its scale is not known.
        blur_px: The same in native pixels.
        coverage: The share of the field, without nucleated cells, that absorbs at least half as much green light as a
            red cell, in [0, 1]; None without a red cell.
        background_color: CIELAB of what lies between the cells; None if nothing does.
        cell_color: CIELAB of the nucleated cells; None without any.
        stain_delta_e: The color difference (CIE76) from the detector's training fields and those that adapted models
            were taught by; None if no card knows colors.
        blurred: Whether the edges are wider than the limit.
        crowded: Whether the coverage is above the limit.
        stain_out_of_range: Whether ``stain_delta_e`` is above the limit.
        um_per_px: The laboratory's scale: the side of a pixel in µm by slides.csv or the metadata; None if neither
            tells.
        red_cells: The number of red cells that the border does not cut.
        red_cell_px: Their median diameter in pixels; None without one.
        red_cell_um: The same by the laboratory's scale, in µm; None without a scale.
        scale_mismatch: Whether no red cell can have that diameter.
        duplicate_of: The first field that shows the same cells; empty if none does.
        counted_elsewhere: How many of its cells another field shows, too, and are a cell of that field alone: a number
            by that field's name.
        thumbnail: The thumbnail that duplicates are found by; empty afterwards, and in a field without nucleated cells,
            because empty fields are all alike.
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
    um_per_px: float | None = None
    red_cells: int = 0
    red_cell_px: float | None = None
    red_cell_um: float | None = None
    scale_mismatch: bool = False
    duplicate_of: str = ""
    counted_elsewhere: Mapping[str, int] = dataclasses.field(default_factory=dict)
    thumbnail: bytes = b""

    @property
    def colors(self) -> FieldColors:
        """The field's colors."""
        return FieldColors(self.background_color, self.cell_color)

    @property
    def repeated_cells(self) -> int:
        """The number of its cells that are counted in other fields."""
        return sum(self.counted_elsewhere.values())


@dataclass(frozen=True, slots=True)
class Familiarity:
    """Whether a slide looks like the laboratories that the models were trained on or adapted to.

    Attributes:
        cells: The number of cells that were measured.
        mean_distance: The mean of their squared Mahalanobis distances to the nearest class; None without cells.
        limit: The largest mean distance of a familiar slide.
        is_familiar: The decision; None if the colors are usual and there are too few cells for one.
        offset: How far the cells lie from those of the laboratory that the models were adapted to, all in one
            direction (wbctool.stages.familiarity.measure_offset); None if they were not adapted, or without cells.
        offset_limit: The largest offset of that laboratory's slides.
        own_distance: The mean of the squared distances to that laboratory's own classes; None as the offset.
        own_distance_limit: The largest of that laboratory's slides; None also for models adapted by earlier versions.
    """

    cells: int
    mean_distance: float | None
    limit: float
    is_familiar: bool | None
    offset: float | None = None
    offset_limit: float | None = None
    own_distance: float | None = None
    own_distance_limit: float | None = None

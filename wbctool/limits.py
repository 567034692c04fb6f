"""The limits that raise a flag, and the reference ranges: the part of the settings that decides what is reported."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass

Ranges = dict[CellClass, tuple[float, float]]

RENDERING_LIMITS = (
    *("low_count_below", "limited_count_below", "high_review_share", "out_of_domain_share"),
    *("min_possible_blasts", "min_immature_granulocytes", "min_nrbc", "correct_wbc_for_nrbc", "adult"),
    *("reference_source", "reference_ranges", "absolute_source", "absolute_ranges"),
)
"""The limits that are applied to counted cells. They change what is written of a slide's cells, but no cell, and no
field's quality; after a change of any other setting the images are looked at again."""


class SettingsModel(BaseModel):
    """Frozen entries of a settings file; `true` and `false` are values of switches alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_not_bool(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `true` for a number, which pydantic would take for 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"{str(value).lower()} is not a value for it")
        return value


class Limits(SettingsModel):
    """The limits that raise a flag, and the reference ranges. Shares are fractions from 0 to 1.

    Each field has a description, from which docs/reference/settings.md is generated.
    """

    low_count_below: int = Field(default=100, ge=1, description="Fewer counted cells raise `low_count`.")
    limited_count_below: int = Field(default=200, ge=1, description="Fewer counted cells raise `limited_count`.")
    high_review_share: float = Field(
        default=0.10,
        ge=0,
        le=1,
        description="A larger share of the counted cells and those in review that is left to a reader raises "
        "`high_review_share`.",
    )
    out_of_domain_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="A larger share of all cells that is unlike anything the model was trained on raises "
        "`out_of_domain`.",
    )
    min_possible_blasts: int = Field(
        default=2, ge=1, description="This many cells that may be blasts raise `possible_blasts`."
    )
    min_immature_granulocytes: int = Field(
        default=1, ge=1, description="This many counted immature granulocytes raise `immature_granulocytes`."
    )
    min_nrbc: int = Field(default=1, ge=1, description="This many erythroblasts raise `nrbc`.")
    max_blur_um: float = Field(
        default=0.19,
        gt=0,
        description="Width of the cells' sharpest edges, in µm of smear. A field whose edges are wider is blurred, if "
        "they are also wider than `min_blur_px`.",
    )
    min_blur_px: float = Field(
        default=1.5,
        ge=0,
        description="Width of the edges in native pixels up to which a field is never blurred: the pixels, not the "
        "focus, are then the limit.",
    )
    max_relative_blur: float = Field(
        default=1.5,
        ge=1,
        description="A field is also blurred if its edges are wider than this multiple of the slide's median, in "
        "slides of five fields or more.",
    )
    blurred_share: float = Field(
        default=0.10, ge=0, le=1, description="A larger share of blurred fields raises `blurred_fields`."
    )
    max_coverage: float = Field(
        default=0.62, ge=0, le=1, description="A field is crowded if red cells cover a larger share of it."
    )
    crowded_share: float = Field(
        default=0.10, ge=0, le=1, description="A larger share of crowded fields raises `crowded_fields`."
    )
    duplicate_correlation: float = Field(
        default=0.97,
        ge=0,
        le=1,
        description="Two fields that correlate more closely show the same cells: `duplicate_fields`.",
    )
    max_stain_delta_e: float = Field(
        default=5.0,
        gt=0,
        description="A field's colors are out of range if they are farther (CIE76) from those that the detector was "
        "trained on.",
    )
    correct_wbc_for_nrbc: bool = Field(
        default=True,
        description="Whether the analyzer counts nucleated red cells as white cells, so that its count is corrected "
        "for them.",
    )
    adult: bool = Field(
        default=False,
        description="Treat slides without an age in `slides.csv` as adults, and so show the reference ranges, which "
        "hold for adults alone: `--adult`.",
    )
    reference_source: str = Field(
        default="ARUP Laboratories, adults", description="The source that is named with the reference ranges."
    )
    reference_ranges: Ranges = Field(
        default_factory=lambda: {
            CellClass.NEUTROPHIL: (45.0, 79.0),
            CellClass.LYMPHOCYTE: (16.0, 47.0),
            CellClass.MONOCYTE: (0.0, 9.0),
            CellClass.EOSINOPHIL: (0.0, 6.0),
            CellClass.BASOPHIL: (0.0, 2.0),
        },
        description="Reference ranges in percent of the counted cells. A table in the file replaces all of them.",
    )
    absolute_source: str = Field(
        default="UK, typical, adults", description="The source that is named with the absolute ranges."
    )
    absolute_ranges: Ranges = Field(
        default_factory=lambda: {
            CellClass.NEUTROPHIL: (2.0, 7.5),
            CellClass.LYMPHOCYTE: (1.0, 4.0),
            CellClass.MONOCYTE: (0.2, 1.0),
            CellClass.EOSINOPHIL: (0.0, 0.4),
            CellClass.BASOPHIL: (0.0, 0.1),
        },
        description="Reference ranges of the absolute counts, in 10⁹/L. A table in the file replaces all of them.",
    )

    @field_validator("reference_ranges", "absolute_ranges", mode="before")
    @classmethod
    def _check_range_classes(cls, ranges: object) -> object:
        """Name the class and the form of a wrong range: pydantic would offer classes that have no range."""
        for label, bounds in ranges.items() if isinstance(ranges, dict) else ():
            if label not in DIFFERENTIAL_CLASSES:
                known = ", ".join(DIFFERENTIAL_CLASSES)
                raise ValueError(f"{label} is not a class of the differential; the classes are {known}")
            if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
                raise ValueError(f"{label}: a range is two numbers, as in [40, 75]")
        return ranges

    @field_validator("reference_ranges", "absolute_ranges")
    @classmethod
    def _check_range_bounds(cls, ranges: Ranges, info: ValidationInfo) -> Ranges:
        """Refuse ranges that are reversed or lie outside the possible values."""
        highest, unit = (100.0, "percentages") if info.field_name == "reference_ranges" else (1000.0, "10⁹/L")
        for label, (low, high) in ranges.items():
            if not 0 <= low <= high <= highest:
                raise ValueError(f"{label}: {low:g} to {high:g} is not a range of {unit}")
        return ranges

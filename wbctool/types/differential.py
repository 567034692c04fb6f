"""Differentials: the counts of one slide, by class."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wbctool.labels import CellClass


class Flag(StrEnum):
    """What a reader must know about a slide, in the order in which it is written (wbctool.report.flag_texts)."""

    UNFAMILIAR = "unfamiliar"
    NO_WBC = "no_wbc"
    LOW_COUNT = "low_count"
    LIMITED_COUNT = "limited_count"
    HIGH_REVIEW_SHARE = "high_review_share"
    OUT_OF_DOMAIN = "out_of_domain"
    POSSIBLE_BLASTS = "possible_blasts"
    IMMATURE_GRANULOCYTES = "immature_granulocytes"
    NRBC = "nrbc"
    BLURRED_FIELDS = "blurred_fields"
    CROWDED_FIELDS = "crowded_fields"
    FAILED_FIELDS = "failed_fields"
    DUPLICATE_FIELDS = "duplicate_fields"
    OVERLAPPING_FIELDS = "overlapping_fields"


@dataclass(frozen=True, slots=True)
class AbsoluteCount:
    """The absolute count of one class.

    Attributes:
        value: The count, in 10⁹/L.
        ci95_low: The lower bound of its 95 % confidence interval, in 10⁹/L.
        ci95_high: The upper bound.
        reference_low: The lower bound of the adult reference range, in 10⁹/L; None if none applies.
        reference_high: The upper bound of the adult reference range.
        flag: ``low`` or ``high`` if the value is outside the range, else empty.
    """

    value: float
    ci95_low: float
    ci95_high: float
    reference_low: float | None
    reference_high: float | None
    flag: str


@dataclass(frozen=True, slots=True)
class AnalyzerCount:
    """The white cell count of an analyzer.

    Attributes:
        analyser_wbc: The count as the analyzer gives it, in 10⁹/L.
        wbc: The count that the absolute counts use, in 10⁹/L.
        corrected_for_nrbc: Whether ``wbc`` was corrected for nucleated red cells.
        reference_source: The source of the absolute reference ranges; empty if they do not apply.
    """

    analyser_wbc: float
    wbc: float
    corrected_for_nrbc: bool
    reference_source: str


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class of a differential.

    Attributes:
        label: The class.
        assessed: Whether the model knows the class.
        n: The number of counted cells.
        percent: The percent of the counted cells; None if nothing was counted.
        ci95_low: The lower bound of the 95 % confidence interval, in percent.
        ci95_high: The upper bound.
        review_low: The percent if none of the review cells were of this class; None without any counted or review cell.
        review_high: The percent if all of the review cells were of this class.
        reference_low: The lower bound of the adult reference range, in percent; None if none applies.
        reference_high: The upper bound of the adult reference range.
        flag: ``low`` or ``high`` if the percent is outside the range, else empty.
        absolute: The absolute count; None without the analyzer's count.
    """

    label: CellClass
    assessed: bool
    n: int
    percent: float | None
    ci95_low: float | None
    ci95_high: float | None
    review_low: float | None = None
    review_high: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    flag: str = ""
    absolute: AbsoluteCount | None = None


@dataclass(frozen=True, slots=True)
class Differential:
    """The differential of one slide.

    Attributes:
        classes: The six leukocyte classes, in order.
        cells: The number of all cells: counted + review + not_wbc.
        counted: The number of counted cells.
        review: The number of cells that a reader must see.
        not_wbc: The number of cells that are no white cells.
        erythroblasts: The number of erythroblasts, which are among ``not_wbc``.
        nrbc_per_100_wbc: Erythroblasts per 100 counted cells; None if nothing was counted.
        nrbc_assessed: Whether the model knows erythroblasts.
        flags: The slide's flags, in order.
        analyzer: The analyzer's count; None if slides.csv does not give it.
    """

    classes: tuple[ClassCount, ...]
    cells: int
    counted: int
    review: int
    not_wbc: int
    erythroblasts: int
    nrbc_per_100_wbc: float | None
    nrbc_assessed: bool
    flags: tuple[Flag, ...]
    analyzer: AnalyzerCount | None = None

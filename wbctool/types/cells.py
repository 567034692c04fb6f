"""The records that stages, batch, report and lab pass on. No logic beyond what follows from their own values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from wbctool.labels import CellClass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Slide:
    """One smear: a folder that directly holds images.

    id: path relative to the root, ``/`` as separator.
    fields: the images' paths, in natural order of their names.
    problem: why the folder could not be listed; empty where it could.
    """

    id: str
    folder: Path
    fields: tuple[Path, ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One image of a slide. rgb: (H, W, 3) uint8, RGB."""

    name: str
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Box:
    """A box in whole native pixels of a field; origin top left, x to the right, y down."""

    x: int
    y: int
    width: int
    height: int

    @property
    def longer_side_px(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    @property
    def center(self) -> tuple[float, float]:
        """(x, y) of the centre, in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    def iou(self, other: Box) -> float:
        """Intersection over union, in [0, 1]."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        intersection = width * height
        return intersection / (self.width * self.height + other.width * other.height - intersection)


class ObjectClass(StrEnum):
    """What the detector tells apart. Only nucleated cells become cells of a slide."""

    NUCLEATED = "wbc"
    RED_CELL = "rbc"
    PLATELET = "platelets"


@dataclass(frozen=True, slots=True)
class Detection:
    """One object the detector proposes. score: in [0, 1]."""

    box: Box
    score: float
    cut_by_border: bool = False
    object_class: ObjectClass = ObjectClass.NUCLEATED


@dataclass(frozen=True, slots=True)
class Crop:
    """The square of native pixels around a cell. rgb: (n, n, 3) uint8, RGB."""

    rgb: Rgb

    @property
    def side_px(self) -> int:
        """n, the side that DESIGN's super-resolution rule speaks of."""
        return int(self.rgb.shape[0])


class Outcome(StrEnum):
    """Where a cell goes."""

    COUNTED = "counted"
    NEEDS_REVIEW = "review"
    NOT_WBC = "not_wbc"


class Reason(StrEnum):
    """Why a cell is not counted."""

    NONE = ""
    LOW_CONFIDENCE = "low_confidence"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    ERYTHROBLAST = "erythroblast"
    PLATELET = "platelet"
    ARTIFACT = "artefact"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier says of one cell.

    label: the most probable class. probabilities: calibrated, in the order of the model's classes, sum 1.
    confidence: the probability of ``label``. energy: -logsumexp of the logits; high where the cell looks like nothing
    known. cam: a square map of where in the prepared crop ``label`` was seen, row by row, a byte a point, 255 the
    strongest; empty where the model gives none (wbctool.stages.gradcam).
    """

    label: CellClass
    confidence: float
    probabilities: tuple[float, ...]
    energy: float
    outcome: Outcome
    reason: Reason
    cam: bytes = b""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a slide. field: the image's name within its slide. index: counts from 1 within a field."""

    field: str
    index: int
    detection: Detection
    super_resolved: bool
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class AbsoluteCount:
    """Cells of one class in 10⁹/L, with the bounds of its percent. reference_*, flag: as ClassCount has them."""

    value: float
    ci95_low: float
    ci95_high: float
    reference_low: float | None
    reference_high: float | None
    flag: str


@dataclass(frozen=True, slots=True)
class AnalyzerCount:
    """The analyser's white cells, 10⁹/L: as it gives them, and as absolute counts take them.

    reference_source: of the absolute counts' ranges; empty where they do not apply.
    """

    analyser_wbc: float
    wbc: float
    corrected_for_nrbc: bool
    reference_source: str


@dataclass(frozen=True, slots=True)
class ClassCount:
    """One class of a differential.

    percent and the bounds are percents of the counted cells; None where nothing was counted.
    assessed: False where the loaded model does not know the class.
    review_low, review_high: the percent if none, or all, of the review cells were of this class; None where there is
    neither a counted nor a review cell.
    reference_low, reference_high: the adult reference range in percent, None where none applies.
    flag: ``low`` or ``high`` against that range, else empty. absolute: None without the analyser's count.
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
    """The differential of one slide: the six leukocyte classes in order, and what stands outside them.

    nrbc_per_100_wbc: None where nothing was counted. nrbc_assessed: False where the model does not know erythroblasts.
    """

    classes: tuple[ClassCount, ...]
    cells: int
    counted: int
    review: int
    not_wbc: int
    erythroblasts: int
    nrbc_per_100_wbc: float | None
    nrbc_assessed: bool
    flags: tuple[str, ...]
    analyzer: AnalyzerCount | None = None

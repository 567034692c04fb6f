"""Slides, fields and cells: what the stages pass on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from wbctool.labels import CellClass, Subtype, UnknownKind

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb

RED_CELL_UM = 7.5  # the mean diameter of a red cell in a dried smear


@dataclass(frozen=True, slots=True)
class Slide:
    """One smear: a folder that directly holds images, or a whole-slide scan.

    Attributes:
        id: The path relative to the root, with ``/`` as separator; of a scan without its ending.
        folder: The folder.
        fields: The paths of the images, in natural order of their names. Of a scan, whose fields are found when it is
            opened, the files that it consists of, the one to open first.
        problem: Why the folder could not be listed; empty if it could.
        is_scan: Whether the slide is a whole-slide scan.
    """

    id: str
    folder: Path
    fields: tuple[Path, ...]
    problem: str = ""
    is_scan: bool = False

    @property
    def n_fields(self) -> int:
        """The number of fields as far as it is known before they are read: a scan is one."""
        return 1 if self.is_scan else len(self.fields)


@dataclass(frozen=True, slots=True)
class Field:
    """One image of a slide.

    Attributes:
        name: The image's name within the slide.
        rgb: (H, W, 3) uint8 RGB.
    """

    name: str
    rgb: Rgb


@dataclass(frozen=True, slots=True)
class Box:
    """A box in whole native pixels of a field. The origin is at the top left, x to the right, y down.

    Attributes:
        x: The leftmost column.
        y: The topmost row.
        width: The number of columns.
        height: The number of rows.
    """

    x: int
    y: int
    width: int
    height: int

    @property
    def longer_side_px(self) -> int:
        """The longer side, in pixels."""
        return max(self.width, self.height)

    @property
    def center(self) -> tuple[float, float]:
        """The center (x, y), in pixels."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def area(self) -> int:
        """The area, in pixels."""
        return self.width * self.height

    @property
    def diameter_px(self) -> float:
        """The diameter of the circle that has the area of the ellipse in the box, in pixels."""
        return float(self.area**0.5)

    def intersection(self, other: Box) -> Box | None:
        """Return the part that lies in another box; None if they have no pixel in common."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = min(self.x + self.width, other.x + other.width) - x
        height = min(self.y + self.height, other.y + other.height) - y
        return Box(x, y, width, height) if width > 0 and height > 0 else None

    def iou(self, other: Box) -> float:
        """Return the intersection over union with another box, in [0, 1]."""
        shared = self.intersection(other)
        return shared.area / (self.area + other.area - shared.area) if shared else 0.0


class ObjectClass(StrEnum):
    """The classes of the detector. Only nucleated cells become cells of a slide."""

    NUCLEATED = "wbc"
    RED_CELL = "rbc"
    PLATELET = "platelets"


@dataclass(frozen=True, slots=True)
class Detection:
    """One object that the detector found.

    Attributes:
        box: The object's box.
        score: The detector's score, in [0, 1].
        cut_by_border: Whether the field's border cuts the object.
        object_class: What the object is.
    """

    box: Box
    score: float
    cut_by_border: bool = False
    object_class: ObjectClass = ObjectClass.NUCLEATED


@dataclass(frozen=True, slots=True)
class Crop:
    """The square of native pixels around a cell.

    Attributes:
        rgb: (n, n, 3) uint8 RGB.
    """

    rgb: Rgb

    @property
    def side_px(self) -> int:
        """n, the side, by which super-resolution is decided."""
        return int(self.rgb.shape[0])


class Outcome(StrEnum):
    """What happens with a cell: it is counted, shown to a reader, or no white cell."""

    COUNTED = "counted"
    NEEDS_REVIEW = "review"
    NOT_WBC = "not_wbc"


class Reason(StrEnum):
    """Why a cell is not counted. Of several reasons for a review, the first in this order is given."""

    NONE = ""
    POSSIBLE_BLAST = "possible_blast"
    OUT_OF_DISTRIBUTION = "out_of_distribution"
    UNFAMILIAR_SLIDE = "unfamiliar_slide"
    """The slide is unfamiliar or has too few cells to decide, and the cell does not pass the stricter rule."""
    DISAGREEMENT = "disagreement"
    LOW_CONFIDENCE = "low_confidence"
    ERYTHROBLAST = "erythroblast"
    PLATELET = "platelet"
    ARTIFACT = "artefact"


NON_WBC_REASONS = {CellClass.ERYTHROBLAST: Reason.ERYTHROBLAST, CellClass.PLATELET: Reason.PLATELET}


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classifier's prediction for one cell.

    Attributes:
        label: The most probable class.
        confidence: The probability of ``label``, in [0, 1].
        probabilities: The calibrated probabilities, in the order of the model's classes; of two readers, their mean.
            Their sum is 1, or less if a reader also knows kinds of cells that no class fits.
        energy: -logsumexp of the first reader's logits of classes; high if the cell looks like nothing known.
        outcome: What happens with the cell.
        reason: Why the cell is not counted.
        unknown_kind: The kind that no class fits, if the reader takes the cell for one.
        distance: The squared Mahalanobis distance to the nearest class of the training in feature space; None if it was
            not measured (wbctool.stages.familiarity).
        position: Where the cell is in the feature space of a classifier that was adapted to a laboratory: float32
            numbers; empty with other classifiers.
        cam: The first reader's Grad-CAM map of ``label`` over the preprocessed crop: a square of bytes, row by row, 255
            at the strongest point. Empty if the model gives none.
        subtype: The finer kind within ``label``; None if the class has none, or no reader can tell it.
    """

    label: CellClass
    confidence: float
    probabilities: tuple[float, ...]
    energy: float
    outcome: Outcome
    reason: Reason
    unknown_kind: UnknownKind | None = None
    distance: float | None = None
    position: bytes = b""
    cam: bytes = b""
    subtype: Subtype | None = None

    def sent_to_review(self, reason: Reason) -> Prediction:
        """Return the prediction of a cell in review; of its reason for that and this one, the first in order stays."""
        reasons = [self.reason, reason] if self.outcome is Outcome.NEEDS_REVIEW else [reason]
        return replace(self, outcome=Outcome.NEEDS_REVIEW, reason=min(reasons, key=list(Reason).index))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a slide.

    Attributes:
        field: The name of its field.
        index: Its number within the field, from 1.
        detection: Its detection.
        super_resolved: Whether the classifier saw it super-resolved.
        prediction: Its prediction.
        diameter_um: Its diameter, in µm of smear (wbctool.stages.cell_size); None if it was not measured.
    """

    field: str
    index: int
    detection: Detection
    super_resolved: bool
    prediction: Prediction
    diameter_um: float | None = None

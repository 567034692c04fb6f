"""What the rule for unfamiliar slides gives at each smallest confidence that it may demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome

CONFIDENCES = tuple(round(0.01 * percent, 2) for percent in range(50, 100))
MAX_SILENT_ERRORS = 0.015  # half of what is asked for in a laboratory never seen, since such a choice is optimistic
MAX_UNKNOWN_COUNTED = 0.10  # of the cells of kinds that no class fits


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What the rule for unfamiliar slides gives in one laboratory.

    Attributes:
        silent_errors: The share of silent errors among the cells of known classes, in [0, 1].
        coverage: Counted cells among these, in [0, 1].
        unknown_counted: Counted cells among those of kinds that no class fits; None without such cells.
        unknown_in_review: Cells in review among these; the others were filed as not_wbc or not found.
    """

    silent_errors: float
    coverage: float
    unknown_counted: float | None
    unknown_in_review: float | None


def measure_rule(cells: Sequence[EvaluatedCell], min_confidence: float) -> OperatingPoint:
    """Measure the rule for unfamiliar slides on the cells of one laboratory.

    Args:
        cells: The cells with both readers' answers, before the rule.
        min_confidence: What the rule demands of the mean of both readers.
    """
    known = [cell for cell in cells if isinstance(cell.kind, CellClass)]
    unknown = [cell for cell in cells if not isinstance(cell.kind, CellClass)]
    kept = [cell for cell in known if is_sure(cell, min_confidence)]
    unknown_counted = [cell.is_counted and is_sure(cell, min_confidence) for cell in unknown]
    unknown_in_review = [cell.is_found and not is_sure(cell, min_confidence) for cell in unknown]
    return OperatingPoint(
        silent_errors=sum(cell.is_silent_error for cell in kept) / len(known),
        coverage=sum(cell.is_counted for cell in kept) / len(known),
        unknown_counted=sum(unknown_counted) / len(unknown) if unknown else None,
        unknown_in_review=sum(unknown_in_review) / len(unknown) if unknown else None,
    )


def is_sure(cell: EvaluatedCell, min_confidence: float) -> bool:
    """Return whether a cell would be counted if the readers had to give its label at least this probability.

    A platelet or another cell outside the differential, which a run sets aside, is sure too.
    """
    return cell.prediction.confidence >= min_confidence and not cell.has_outcome(Outcome.NEEDS_REVIEW)


def choose_min_confidence(laboratories: Mapping[str, Sequence[EvaluatedCell]]) -> float:
    """Choose the smallest confidence at which no laboratory has too many silent errors or unknown kinds counted.

    Args:
        laboratories: The cells of each laboratory.

    Returns:
        The confidence, of CONFIDENCES; the largest if none is enough.
    """
    for confidence in CONFIDENCES:
        points = [measure_rule(cells, confidence) for cells in laboratories.values()]
        if all(
            point.silent_errors <= MAX_SILENT_ERRORS and (point.unknown_counted or 0) <= MAX_UNKNOWN_COUNTED
            for point in points
        ):
            return confidence
    return CONFIDENCES[-1]

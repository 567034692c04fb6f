"""How often the flag ``possible_blasts`` is raised on simulated slides, without blasts and by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.evaluation.percent_errors import draw_by_group
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import UnknownKind
from wbctool.limits import Limits
from wbctool.types.cells import Reason

SLIDE_CELLS = 100
BLASTS = 5
_N_SLIDES = 1000  # with and without blasts each
_MIN_POSSIBLE_BLASTS = Limits().min_possible_blasts


@dataclass(frozen=True, slots=True)
class BlastFlagReport:
    """How often slides of SLIDE_CELLS cells of one data set are flagged.

    Attributes:
        dataset: Name of the data set.
        white_cells: Number of labeled white cells from which the slides are drawn.
        blasts: Number of labeled blasts.
        flagged_without: Flagged slides among those without a blast, in [0, 1].
        flagged_by_blasts: Slides that are flagged for BLASTS blasts alone, in [0, 1]; None without labeled ones.
    """

    dataset: str
    white_cells: int
    blasts: int
    flagged_without: float
    flagged_by_blasts: float | None


def simulate_blast_flags(cells: Sequence[EvaluatedCell]) -> tuple[BlastFlagReport, ...]:
    """Draw slides from the cells of each data set that has white cells, and count those that would be flagged.

    Each cell of a slide is a random cell of a random group, drawn with replacement.

    Args:
        cells: Cells of any number of data sets.
    """
    reports = []
    for dataset in sorted({cell.dataset for cell in cells}):
        members = [cell for cell in cells if cell.dataset == dataset]
        white_cells = [cell for cell in members if cell.is_white_cell]
        blasts = [cell for cell in members if cell.kind == UnknownKind.BLAST]
        if not white_cells:
            continue
        without = _count_possible_blasts(white_cells, (_N_SLIDES, SLIDE_CELLS))
        by_blasts = _count_possible_blasts(blasts, (_N_SLIDES, BLASTS)) if blasts else None
        reports.append(
            BlastFlagReport(
                dataset=dataset,
                white_cells=len(white_cells),
                blasts=len(blasts),
                flagged_without=_share_flagged(without),
                flagged_by_blasts=None if by_blasts is None else _share_flagged(by_blasts),
            )
        )
    return tuple(reports)


def _count_possible_blasts(cells: Sequence[EvaluatedCell], shape: tuple[int, int]) -> NDArray[np.intp]:
    """Return the number of possible blasts on each of shape[0] slides of shape[1] cells."""
    in_order = sorted(cells, key=lambda cell: cell.group)
    is_possible = np.array([cell.is_found and cell.prediction.reason is Reason.POSSIBLE_BLAST for cell in in_order])
    _, drawn = draw_by_group([cell.group for cell in in_order], shape)
    possible_blasts: NDArray[np.intp] = np.count_nonzero(is_possible[drawn], axis=1)
    return possible_blasts


def _share_flagged(possible_blasts: NDArray[np.intp]) -> float:
    """Return the share of slides with so many possible blasts that the flag is raised."""
    return float((possible_blasts >= _MIN_POSSIBLE_BLASTS).mean())

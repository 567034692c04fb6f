"""The error of a differential's percents, on slides simulated from labeled cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.limits import Limits
from wbctool.stages.differential import count_cells

SLIDE_CELLS = (100, 200)
_N_SLIDES = 1000
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class PercentError:
    """How far one class's percent is from the true one. All numbers are percents or percent points.

    Attributes:
        true_percent: The true percent in the laboratory from which the slides are drawn.
        mean_error: Mean absolute error of the percent among the counted cells.
        mean_sampling_error: The same of a reader who makes no mistake and leaves no cell out.
        within_interval: How many of the slides' printed 95 % intervals hold the true percent.
    """

    true_percent: float
    mean_error: float
    mean_sampling_error: float
    within_interval: float


@dataclass(frozen=True, slots=True)
class PercentErrorReport:
    """The error of the percents on simulated slides of one data set.

    Attributes:
        dataset: Name of the data set.
        cells: Number of cells on each slide, found or not.
        slides: Number of simulated slides with a counted and a white cell; the others are left out.
        mean_counted: Mean number of counted cells of those slides.
        classes: The error of each class of the differential that the model knows.
    """

    dataset: str
    cells: int
    slides: int
    mean_counted: float
    classes: dict[str, PercentError]


def simulate_all_percent_errors(
    cells: Sequence[EvaluatedCell], classes: Sequence[CellClass]
) -> tuple[PercentErrorReport, ...]:
    """Simulate slides of each data set and each of SLIDE_CELLS; see :func:`simulate_percent_errors`."""
    datasets = sorted({cell.dataset for cell in cells})
    members = {dataset: [cell for cell in cells if cell.dataset == dataset] for dataset in datasets}
    reports = (simulate_percent_errors(members[d], classes, number) for d in datasets for number in SLIDE_CELLS)
    return tuple(report for report in reports if report)


def simulate_percent_errors(
    cells: Sequence[EvaluatedCell],
    classes: Sequence[CellClass],
    slide_cells: int,
    n_slides: int = _N_SLIDES,
) -> PercentErrorReport | None:
    """Draw slides from the cells of one laboratory and compare their printed percents with the true ones.

    Each cell of a slide is a random cell of a random group, drawn with replacement, so each group weighs the same. The
    true percent is that of the white cells of the whole laboratory, weighted alike: the printed interval is to hold
    it in 95 of 100 slides.

    Args:
        cells: Cells of one data set. Those that a run does not find are drawn, too, but are not counted.
        classes: Classes of the model; cells of other kinds are left out.
        slide_cells: Number of cells on each slide.
        n_slides: Number of slides.

    Returns:
        The errors; None if no slide has a counted cell.
    """
    known = sorted((cell for cell in cells if cell.kind in classes), key=lambda cell: cell.group)
    labels = tuple(label for label in DIFFERENTIAL_CLASSES if label in classes)
    is_class = np.array([[cell.kind == label for label in labels] for cell in known], bool)
    if not is_class.any():
        return None
    weights, drawn = draw_by_group([cell.group for cell in known], (n_slides, slide_cells))
    true_percents = _percents((weights[:, None] * is_class).sum(axis=0))
    counted, printed, sampled = [], [], []
    for indices in drawn.tolist():
        predictions = [known[index].prediction for index in indices if known[index].is_found]
        differential = count_cells(predictions, classes, _LIMITS)
        n_true = is_class[indices].sum(axis=0)
        if differential.counted and n_true.any():
            counted.append(differential.counted)
            printed.append([(c.percent, c.ci95_low, c.ci95_high) for c in differential.classes if c.assessed])
            sampled.append(_percents(n_true))
    if not counted:
        return None
    percents, low, high = np.moveaxis(np.array(printed, float), -1, 0)
    errors = np.abs(percents - true_percents).mean(axis=0).tolist()
    sampling_errors = np.abs(np.array(sampled) - true_percents).mean(axis=0).tolist()
    within = 100 * ((low <= true_percents) & (true_percents <= high)).mean(axis=0)
    columns = zip(labels, true_percents.tolist(), errors, sampling_errors, within.tolist(), strict=True)
    return PercentErrorReport(
        dataset=known[0].dataset,
        cells=slide_cells,
        slides=len(counted),
        mean_counted=float(np.mean(counted)),
        classes={label.value: PercentError(*values) for label, *values in columns},
    )


def draw_by_group(groups: Sequence[str], shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return each item's probability, and indices of items drawn as random members of random groups.

    Args:
        groups: The group of each item; items of one group stand together.
        shape: Shape of the array of indices.
    """
    _, starts, members = np.unique(np.asarray(groups), return_index=True, return_counts=True)
    rng = np.random.default_rng(0)
    drawn_groups = rng.integers(len(starts), size=shape)
    drawn = starts[drawn_groups] + rng.integers(members[drawn_groups])
    return np.repeat(1 / (len(starts) * members), members), drawn


def _percents(values: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """Return the percent of each value in their sum, which is not 0."""
    return np.asarray(100 * values / values.sum(), np.float64)

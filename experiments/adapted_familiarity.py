"""Which slides are familiar to models adapted to a laboratory: a part of `python -m experiments.adaptation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from experiments.draws import MEASURED_SHARE, draw_cells
from wbctool.adaptation.adapt import to_cell_labels
from wbctool.adaptation.cells import AdaptationCell
from wbctool.adaptation.fit import adapt_readers
from wbctool.adaptation.readers import Reader
from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.labels import CellClass
from wbctool.stages.familiarity import assess_familiarity, measure_familiarity
from wbctool.types.cells import Outcome, Prediction, Reason

SLIDE_CELLS = (20, 50, 100)
SIZES = (50, 100)
_DRAWS = 5
_SIMULATED_SLIDES = 200  # for each of the draws


def format_familiarity(laboratories: Mapping[str, tuple[Sequence[AdaptationCell], Sequence[Reader]]]) -> str:
    """Return what share of simulated slides is familiar to models adapted to a laboratory, as a Markdown table.

    Args:
        laboratories: The cells of each laboratory, and the readers with their features.
    """
    lines = [
        f"| adapted to | cells | slides of | familiar before, of {min(SLIDE_CELLS)} cells | "
        f"familiar after, of {', '.join(map(str, SLIDE_CELLS))} cells |",
        "|---|---|---|---|---|",
    ]
    for name, (cells, readers) in laboratories.items():
        cell_labels, rule = to_cell_labels(cells), readers[0].card.familiarity
        for size in SIZES:
            if rule is None or size > (1 - MEASURED_SHARE) * len(cells):
                continue
            draws = [draw_cells(cell_labels.groups, size, seed) for seed in range(_DRAWS)]
            rules = [adapt_readers(readers, cell_labels, taught)[0].card.familiarity for taught in draws]
            for other, (_, of_other) in laboratories.items():
                is_own = other == name
                features = [of_other[0].features[~taught] if is_own else of_other[0].features for taught in draws]
                before = _share_familiar(features[:1], [rule], min(SLIDE_CELLS))
                after = ", ".join(_share_familiar(features, rules, n_cells) for n_cells in SLIDE_CELLS)
                lines.append(f"| {name} | {size} | {other}{', other cells' if is_own else ''} | {before} | {after} |")
    return "\n".join(lines) + "\n"


def _share_familiar(
    features: Sequence[NDArray[np.float32]], rules: Sequence[FamiliarityRule | None], n_cells: int
) -> str:
    """Return what share of slides, each of some of the cells, is familiar; a dash if there are too few cells.

    Args:
        features: (N, D) of the cells that slides are drawn from, for each rule.
        rules: The rules by which the slides are judged.
        n_cells: The number of cells of a slide.
    """
    if n_cells > min(map(len, features)):
        return "-"
    unread = Prediction(CellClass.NEUTROPHIL, 1.0, (1.0,), 0.0, Outcome.COUNTED, Reason.NONE)
    rng = np.random.default_rng(0)
    familiar: list[bool] = []
    for of_draw, rule in zip(features, rules, strict=True):
        assert rule is not None
        cells = measure_familiarity([unread] * len(of_draw), of_draw, rule)
        for _ in range(_SIMULATED_SLIDES):
            slide = [cells[i] for i in rng.choice(len(cells), n_cells, replace=False)]
            familiarity = assess_familiarity(slide, rule)
            familiar.append(familiarity is not None and familiarity.is_familiar is True)
    return f"{fmean(familiar):.0%}"

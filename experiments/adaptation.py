"""`python -m experiments.adaptation`: what a number of labeled cells teaches the readers, laboratory by laboratory.

For each ``--laboratory``, cells are drawn at random, by group, and the readers are adapted to them; all other cells of
the laboratory measure the result. ``--models`` must not have been trained on any of the laboratories. The table gives
means over the draws, with the standard deviation of the accuracy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.adapt import compute_readers, predict_as_shipped, to_cell_labels
from wbctool.adaptation.cells import AdaptationCell, merge_cells, read_labelled_cells
from wbctool.adaptation.fit import Reader, adapt_readers, is_silent_error, predict
from wbctool.adaptation.measure import compare
from wbctool.datasets.fields import read_cell_labels
from wbctool.enums import Device, Precision
from wbctool.errors import SettingsInvalid
from wbctool.inference.loading import Models, load_models
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction

SIZES = (25, 50, 100)


@dataclass(frozen=True, slots=True)
class Draw:
    """One adaptation, measured on the cells that were not drawn; shares in [0, 1].

    Attributes:
        laboratory: The laboratory.
        cells: The number of cells drawn; 0 for the models as they are.
        accuracy: Right labels among the cells of known classes.
        silent_errors: Wrong cells that no reader is asked about, among all.
        coverage: Counted cells among all.
        is_better: Whether `wbctool adapt` would judge so, by these cells.
    """

    laboratory: str
    cells: int
    accuracy: float
    silent_errors: float
    coverage: float
    is_better: bool


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, adapt, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laboratory", type=Path, action="append", required=True, metavar="DIR", help="labeled cells")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="classes of cells in fields without a labels.csv")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="models to adapt")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where draws.json and table.md go")
    parser.add_argument("--draws", type=int, default=10, help="draws of each size")
    args = parser.parse_args(argv)
    models = load_models(args.models, Device.CPU, Precision.FP32)
    labels = read_cell_labels(args.labels) if args.labels else {}
    draws: list[Draw] = []
    for folder in args.laboratory:
        cells = merge_cells(read_labelled_cells(folder, models, lambda items, *_: items, labels))
        _check_unseen(cells, models)
        draws += measure_laboratory(folder.name, cells, compute_readers(cells, models, args.models), args.draws)
        print(format_table(draws), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "draws.json").write_text(json.dumps([asdict(draw) for draw in draws], indent=1) + "\n")
    (args.out / "table.md").write_text(format_table(draws))


def measure_laboratory(
    name: str, cells: Sequence[AdaptationCell], readers: Sequence[Reader], n_draws: int
) -> Iterator[Draw]:
    """Yield the models as they are, and all draws of one laboratory.

    Args:
        name: The laboratory's name.
        cells: Its cells.
        readers: The readers with the cells' features.
        n_draws: The number of draws of each size; a size of more than two thirds of the cells is left out.
    """
    cell_labels = to_cell_labels(cells)
    shipped = predict_as_shipped(readers)
    yield _measure(name, 0, cells, shipped, shipped, np.ones(len(cells), bool))
    for size in SIZES:
        for seed in range(n_draws) if size <= 2 / 3 * len(cells) else ():
            chosen = draw_cells(cell_labels.groups, size, seed)
            adapted = adapt_readers(readers, cell_labels, chosen)
            logits = [a.layer.compute_logits(r.features) for a, r in zip(adapted, readers, strict=True)]
            yield _measure(name, size, cells, shipped, predict(logits, [a.card for a in adapted]), ~chosen)


def draw_cells(groups: Sequence[str], size: int, seed: int) -> NDArray[np.bool_]:
    """Draw whole groups at random until there are so many cells.

    Args:
        groups: The group of each cell.
        size: The number of cells; the last group may exceed it.
        seed: Of the random order.

    Returns:
        (N,) bool, whether each cell is drawn.
    """
    by_group = np.array(groups)
    chosen = np.zeros(len(groups), bool)
    for group in np.random.default_rng(seed).permutation(np.unique(by_group)):
        if chosen.sum() >= size:
            break
        chosen |= by_group == group
    return chosen


def format_table(draws: Sequence[Draw]) -> str:
    """Return the means over the draws as a Markdown table."""
    lines = [
        "| laboratory | labeled cells | right | silent errors | counted | judged better |",
        "|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((draw.laboratory, draw.cells) for draw in draws):
        members = [draw for draw in draws if (draw.laboratory, draw.cells) == key]
        accuracies = [draw.accuracy for draw in members]
        spread = f" ± {pstdev(accuracies):.1%}" if len(members) > 1 else ""
        better = f"{sum(draw.is_better for draw in members)} of {len(members)}" if key[1] else "-"
        silent, coverage = (fmean(getattr(d, name) for d in members) for name in ("silent_errors", "coverage"))
        lines.append(
            f"| {key[0]} | {key[1]} | {fmean(accuracies):.1%}{spread} | {silent:.1%} | {coverage:.1%} | {better} |"
        )
    return "\n".join(lines) + "\n"


def _measure(
    name: str,
    size: int,
    cells: Sequence[AdaptationCell],
    before: Sequence[Prediction],
    after: Sequence[Prediction],
    measured: NDArray[np.bool_],
) -> Draw:
    """Measure predictions on some cells."""
    chosen = np.flatnonzero(measured).tolist()
    labels, predictions = [cells[i].label for i in chosen], [after[i] for i in chosen]
    known = [p.label == label for p, label in zip(predictions, labels, strict=True) if isinstance(label, CellClass)]
    comparison = compare(labels, [cells[i].group for i in chosen], [before[i] for i in chosen], predictions)
    return Draw(
        laboratory=name,
        cells=size,
        accuracy=fmean(known),
        silent_errors=fmean(map(is_silent_error, predictions, labels)),
        coverage=fmean(p.outcome is Outcome.COUNTED for p in predictions),
        is_better=comparison is not None and comparison.is_better,
    )


def _check_unseen(cells: Sequence[AdaptationCell], models: Models) -> None:
    """Raise SettingsInvalid if a model has learned classes of these cells' data sets."""
    datasets = {cell.group.partition("/")[0] for cell in cells}
    for model in (models.classifier, models.second):
        if model is not None and (seen := sorted(datasets & set(model.card.training.get("datasets", ())))):
            raise SettingsInvalid(f"{model.card.file} was trained on {', '.join(seen)}")


if __name__ == "__main__":
    main()

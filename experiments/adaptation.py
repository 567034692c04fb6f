"""`python -m experiments.adaptation`: what a number of labeled cells teaches the readers, laboratory by laboratory.

For each ``--laboratory`` and draw, a third of the groups is set aside to measure the result. Of the others, cells are
drawn at random by group, or chosen as `wbctool label` chooses them, and the readers are adapted to these. ``--models``
must not have been trained on any of the laboratories; with ``--readers compact`` the second reader is adapted alone,
and only it must not. The table gives means over the draws, with the standard deviation of the accuracy. With
``--deep`` the readers are adapted to the same cells by the deep method too. A second table says, of the default one,
what share of slides is familiar to models that are adapted to 50 or 100 cells of a laboratory: slides of its other
cells and of the other laboratories.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from statistics import fmean, pstdev

import cv2
import numpy as np
from numpy.typing import NDArray
from wbctool_training.last_block import LastBlockTuner

from experiments.adapted_familiarity import format_familiarity
from experiments.draws import MEASURED_SHARE, draw_cells
from experiments.readers import check_unseen
from wbctool.adaptation.adapt import compute_readers, predict_as_shipped, to_cell_labels
from wbctool.adaptation.candidates import DESCRIPTOR_PX, Candidate, in_class_order
from wbctool.adaptation.cells import AdaptationCell, merge_cells, read_labelled_cells
from wbctool.adaptation.fit import adapt_readers, predict
from wbctool.adaptation.labels_file import Purpose
from wbctool.adaptation.measure import compare
from wbctool.adaptation.readers import Reader
from wbctool.adaptation.sampling import choose_cells
from wbctool.datasets.fields import read_cell_labels
from wbctool.enums import Device, Precision, Readers
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.inference.adaptation_info import AdaptationMethod
from wbctool.inference.loading import load_models
from wbctool.labels import CellClass
from wbctool.types.cells import Box, Cell, Detection, Outcome, Prediction
from wbctool.types.progress import no_progress

SIZES = (25, 50, 100)


class Choice(StrEnum):
    """How the cells are chosen that teach."""

    RANDOM = "random"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Draw:
    """One adaptation, measured on the cells that were not drawn; shares in [0, 1].

    Attributes:
        laboratory: The laboratory.
        choice: How the cells were chosen; None for the models as they are.
        method: How the readers were adapted; None for the models as they are.
        cells: The number of cells chosen; 0 for the models as they are.
        accuracy: Right labels among the cells of known classes.
        silent_errors: Wrong cells that no reader is asked about, among all.
        coverage: Counted cells among all.
        is_better: Whether `wbctool adapt` would judge so, by these cells of a familiar slide.
    """

    laboratory: str
    choice: Choice | None
    method: AdaptationMethod | None
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
    parser.add_argument("--readers", type=Readers, choices=(Readers.BOTH, Readers.COMPACT), default=Readers.BOTH)
    parser.add_argument("--deep", action="store_true", help="also fine-tune the first reader's last block")
    parser.add_argument("--draws", type=int, default=10, help="draws of each size")
    parser.add_argument("--size", type=int, action="append", help=f"number of labeled cells; default: {SIZES}")
    args = parser.parse_args(argv)
    models = load_models(args.models, Device.CPU, Precision.FP32, args.readers)
    labels = read_cell_labels(args.labels) if args.labels else {}
    draws: list[Draw] = []
    laboratories: dict[str, tuple[Sequence[AdaptationCell], Sequence[Reader]]] = {}
    for folder in args.laboratory:
        cells = merge_cells(read_labelled_cells(folder, models, no_progress, labels))
        cells = leave_out_other_classes(cells, models.classifier.card.classes)
        check_unseen(cells, models)
        laboratories[folder.name] = (
            cells,
            compute_readers(cells, models, args.models, make_tuner=LastBlockTuner if args.deep else None),
        )
        draws += measure_laboratory(folder.name, *laboratories[folder.name], args.draws, args.size or SIZES)
        print(format_table(draws), flush=True)
    familiarity = format_familiarity({name: (cells, _untuned(r)) for name, (cells, r) in laboratories.items()})
    print(familiarity, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "draws.json").write_text(json.dumps([asdict(draw) for draw in draws], indent=1) + "\n")
    (args.out / "table.md").write_text(f"{format_table(draws)}\n{familiarity}")


def leave_out_other_classes(cells: Sequence[AdaptationCell], classes: Sequence[CellClass]) -> list[AdaptationCell]:
    """Leave out the cells of classes that the readers do not have, such as platelets, and say how many there are."""
    others = [cell.label for cell in cells if isinstance(cell.label, CellClass) and cell.label not in classes]
    if others:
        names = ", ".join(sorted(set(others)))
        print(f"{len(others)} cells left out, of classes that the readers do not have: {names}")
    return [cell for cell in cells if cell.label not in others]


def measure_laboratory(
    name: str,
    cells: Sequence[AdaptationCell],
    readers: Sequence[Reader],
    n_draws: int,
    sizes: Sequence[int] = SIZES,
) -> Iterator[Draw]:
    """Yield the models as they are, and all draws of one laboratory.

    Args:
        name: The laboratory's name.
        cells: Its cells.
        readers: The readers with the cells' features; with a tuner, they are adapted by both methods.
        n_draws: The number of draws of each size.
        sizes: Numbers of cells; one of more than two thirds of the laboratory's is left out.
    """
    cell_labels = to_cell_labels(cells)
    shipped = predict_as_shipped(readers)
    candidates = _make_candidates(cells, shipped, readers[0].card.classes)
    yield _measure(name, None, None, 0, cells, shipped, shipped, np.ones(len(cells), bool))
    methods = {AdaptationMethod.DEFAULT: _untuned(readers)}
    if readers[0].tuner is not None:
        methods[AdaptationMethod.DEEP] = list(readers)
    sizes = [size for size in sizes if size <= (1 - MEASURED_SHARE) * len(cells)]
    for seed in range(n_draws):
        measured = draw_cells(cell_labels.groups, round(MEASURED_SHARE * len(cells)), seed)
        for size in sizes:
            for choice in Choice:
                chosen = drawn = draw_cells(cell_labels.groups, size, seed, ~measured)
                if choice is Choice.LABEL:
                    chosen, drawn = _choose_as_label(candidates, size, ~measured)
                labels_of_draw = replace(cell_labels, drawn=drawn)
                for method, of_method in methods.items():
                    adapted = adapt_readers(of_method, labels_of_draw, chosen)
                    logits = [a.layer.compute_logits(a.features) for a in adapted]
                    predictions = predict(logits, [a.card for a in adapted])
                    yield _measure(name, choice, method, size, cells, shipped, predictions, measured)


def _untuned(readers: Sequence[Reader]) -> list[Reader]:
    """Return the readers without what would tune their last block."""
    return [replace(reader, tuner=None) for reader in readers]


def _make_candidates(
    cells: Sequence[AdaptationCell], shipped: Sequence[Prediction], classes: Sequence[CellClass]
) -> list[Candidate]:
    """Return the cells as `wbctool label` would find them in the results of a run."""
    candidates = []
    for row, (cell, prediction) in enumerate(zip(cells, shipped, strict=True), start=1):
        box = Box(0, 0, cell.crop.side_px, cell.crop.side_px)
        small = cv2.resize(cell.crop.rgb, (DESCRIPTOR_PX, DESCRIPTOR_PX), interpolation=cv2.INTER_AREA)
        descriptor = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.uint8, copy=False)
        found = Cell(cell.origin, row, Detection(box, 1.0), False, prediction)
        probabilities = in_class_order(prediction.probabilities, classes)
        candidates.append(Candidate(cell.group, row, found, probabilities, cell.sha256, descriptor))
    return candidates


def _choose_as_label(
    candidates: Sequence[Candidate], size: int, pool: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which cells `wbctool label` would show of those in the pool, and which of them it drew at random."""
    in_pool = [candidate for candidate, is_in in zip(candidates, pool, strict=True) if is_in]
    chosen, drawn = np.zeros((2, len(candidates)), bool)
    for candidate, purpose in choose_cells(in_pool, size):
        chosen[candidate.row - 1] = True
        drawn[candidate.row - 1] = purpose is Purpose.MEASURE
    return chosen, drawn


def format_table(draws: Sequence[Draw]) -> str:
    """Return the means over the draws as a Markdown table."""
    lines = [
        "| laboratory | labeled cells | chosen | method | right | silent errors | counted | judged better |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((draw.laboratory, draw.cells, draw.choice, draw.method) for draw in draws):
        members = [draw for draw in draws if (draw.laboratory, draw.cells, draw.choice, draw.method) == key]
        accuracies = [draw.accuracy for draw in members]
        spread = f" ± {pstdev(accuracies):.1%}" if len(members) > 1 else ""
        better = f"{sum(draw.is_better for draw in members)} of {len(members)}" if key[1] else "-"
        silent, coverage = (fmean(getattr(d, name) for d in members) for name in ("silent_errors", "coverage"))
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2] or '-'} | {key[3] or '-'} | {fmean(accuracies):.1%}{spread} | "
            f"{silent:.1%} | {coverage:.1%} | {better} |"
        )
    return "\n".join(lines) + "\n"


def _measure(
    name: str,
    choice: Choice | None,
    method: AdaptationMethod | None,
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
        choice=choice,
        method=method,
        cells=size,
        accuracy=fmean(known),
        silent_errors=fmean(map(is_silent_error, predictions, labels)),
        coverage=fmean(p.outcome is Outcome.COUNTED for p in predictions),
        is_better=comparison.is_better,
    )


if __name__ == "__main__":
    main()

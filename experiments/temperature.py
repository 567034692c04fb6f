"""`python -m experiments.temperature`: temperatures fitted at home against those fitted in other laboratories.

The models of ``--models`` must not have been trained on any ``--laboratory``. For each laboratory the temperature of
each reader is fitted on the cells of the others, which weigh the same. The confidence of the rule for unfamiliar slides
is chosen on the others too, once with these temperatures and once with those of the cards, which were fitted at home.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.operating_points import choose_min_confidence, measure_rule
from experiments.readers import check_unseen
from wbctool.adaptation.cells import AdaptationCell, merge_cells, read_labelled_cells
from wbctool.adaptation.fit import predict
from wbctool.datasets.fields import read_cell_labels
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.evaluation.calibration import calibration_error, fit_temperature
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import CellClassifierCard
from wbctool.inference.session import LOGITS
from wbctool.labels import CellClass
from wbctool.stages.preprocess import preprocess_crops
from wbctool.store.atomic_write import write_atomic
from wbctool.types.progress import no_progress

RESULT = "temperatures.md"
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Laboratory:
    """The cells of one laboratory with the readers' logits.

    Attributes:
        name: The laboratory's name.
        cells: The cells.
        logits: (N, outputs) float32 of each reader.
    """

    name: str
    cells: Sequence[AdaptationCell]
    logits: Sequence[NDArray[np.float32]]


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, fit, measure, and write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laboratory", type=Path, action="append", required=True, metavar="DIR", help="labeled cells")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="classes of cells in fields without a labels.csv")
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="the models")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"where {RESULT} goes")
    args = parser.parse_args(argv)
    if len(args.laboratory) < 2:
        parser.error("give at least two laboratories")
    models = load_models(args.models, Device.CPU, Precision.FP32)
    labels = read_cell_labels(args.labels) if args.labels else {}
    laboratories = []
    for folder in args.laboratory:
        cells = merge_cells(read_labelled_cells(folder, models, no_progress, labels))
        check_unseen(cells, models)
        laboratories.append(Laboratory(folder.name, cells, compute_logits(cells, models)))
    table = format_table(laboratories, [model.card for model in models.classifiers])
    write_atomic(args.out / RESULT, table.encode())
    print(table)


def compute_logits(cells: Sequence[AdaptationCell], models: Models) -> list[NDArray[np.float32]]:
    """Return the logits (N, outputs) of each reader for some cells."""
    rgb = preprocess_crops([cell.crop for cell in cells], models.generator, SuperResolve.AUTO).rgb
    batches = [rgb[start : start + _BATCH] for start in range(0, len(rgb), _BATCH)]
    return [np.concatenate([model.run(batch, LOGITS)[0] for batch in batches]) for model in models.classifiers]


def fit_temperatures(laboratories: Sequence[Laboratory], cards: Sequence[CellClassifierCard]) -> list[float]:
    """Fit the temperature of each reader to the cells of known classes of some laboratories, which weigh the same."""
    temperatures = []
    for index, card in enumerate(cards):
        logits, y_true, weights = [], [], []
        for laboratory in laboratories:
            known = [row for row, cell in enumerate(laboratory.cells) if cell.label in card.classes]
            logits.append(laboratory.logits[index][known, : len(card.classes)].astype(np.float64))
            y_true.append([card.classes.index(CellClass(laboratory.cells[row].label)) for row in known])
            weights.append(np.full(len(known), 1 / (len(known) * len(laboratories))))
        temperatures.append(fit_temperature(np.concatenate(logits), np.concatenate(y_true), np.concatenate(weights)))
    return temperatures


def evaluate_cells(laboratory: Laboratory, cards: Sequence[CellClassifierCard]) -> list[EvaluatedCell]:
    """Return a laboratory's cells with both readers' answers, before the rule for unfamiliar slides."""
    predictions = predict(laboratory.logits, cards)
    return [
        EvaluatedCell(laboratory.name, cell.origin, cell.group, cell.label, None, prediction, True)
        for cell, prediction in zip(laboratory.cells, predictions, strict=True)
    ]


def format_table(laboratories: Sequence[Laboratory], cards: Sequence[CellClassifierCard]) -> str:
    """Fit and measure, and return a Markdown table with two rows for each laboratory.

    Args:
        laboratories: The laboratories, two at least.
        cards: The card of each reader, with the temperature fitted at home.
    """
    lines = [
        "| laboratory | cells | temperatures fitted | temperatures | calibration error | "
        "confidence chosen on the others | silent errors | counted | unknown kinds counted |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for laboratory in laboratories:
        others = [other for other in laboratories if other is not laboratory]
        ways: Mapping[str, Sequence[float]] = {
            "at home": [card.temperature for card in cards],
            "on the others": fit_temperatures(others, cards),
        }
        for way, temperatures in ways.items():
            changed = [
                card.model_copy(update={"temperature": temperature})
                for card, temperature in zip(cards, temperatures, strict=True)
            ]
            cells = evaluate_cells(laboratory, changed)
            confidence = choose_min_confidence({other.name: evaluate_cells(other, changed) for other in others})
            known = [cell for cell in cells if isinstance(cell.kind, CellClass)]
            error = calibration_error(
                np.array([cell.prediction.confidence for cell in known]), np.array([cell.is_correct for cell in known])
            )
            point = measure_rule(cells, confidence)
            unknown = "-" if point.unknown_counted is None else f"{point.unknown_counted:.1%}"
            lines.append(
                f"| {laboratory.name} | {len(known)} | {way} | {', '.join(f'{t:.2f}' for t in temperatures)} | "
                f"{error:.3f} | {confidence:.2f} | {point.silent_errors:.1%} | {point.coverage:.1%} | {unknown} |"
            )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()

"""`python -m experiments.complete_reader`: add to a trained reader what `wbctool train` has come to write since.

That is, in its card, the threshold for kinds that no class fits and, if it has none, the rule for unfamiliar slides;
and beside it the features of training cells. The ONNX file stays as it is. ``--data`` are the data that the reader was
trained on; other data sets there are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wbctool_training.calibration import fit_unknown_threshold
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.data.laboratories import laboratory_balanced_weights
from wbctool_training.familiarity import fit_familiarity
from wbctool_training.train import make_context

from experiments.options import context_arguments, make_parser
from wbctool.datasets.labelled import GroupSplit, Split, evenly_spaced
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import CellClassifierCard, ClassifierCard, CompactCard, kind_name, load_fp32_card
from wbctool.inference.model_folder import encode_card
from wbctool.inference.session import FEATURES, LOGITS, OnnxModel
from wbctool.inference.training_features import TrainingFeatures, encode_training_features, training_features_path
from wbctool.store.atomic_write import write_atomic

_CELLS = 1500  # of each split
_BATCH = 64
_KINDS: dict[str, type[CellClassifierCard]] = {kind_name(kind): kind for kind in (ClassifierCard, CompactCard)}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, measure the features and write what is missing."""
    parser = make_parser(__doc__)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="the folder of the reader")
    parser.add_argument("--reader", choices=_KINDS, default="classifier", help="which of its readers")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="classes of cells in fields without a labels.csv")
    args = parser.parse_args(argv)
    kind = _KINDS[args.reader]
    card = load_fp32_card(args.models, kind)
    group_split = GroupSplit.from_card(card.training)
    options = context_arguments(args) | {"out": args.out, "group_split": group_split, "labels": args.labels}
    context = make_context(**options)
    outputs = (*card.classes, *card.unknown_kinds)
    datasets = card.training["datasets"]
    cells = [cell for cell in context.load_cells() if cell.label in outputs and cell.dataset in datasets]
    model = load_model(args.models, kind)

    def measure(split: Split) -> tuple[list[CellRef], NDArray[np.float32], TrainingFeatures]:
        chosen = evenly_spaced([cell for cell in cells if group_split.assign(cell) is split], _CELLS)
        y_true = np.array([outputs.index(cell.label) for cell in chosen if cell.label is not None])
        logits, features = _run(chosen, model)
        return chosen, logits, TrainingFeatures(features, y_true)

    _, _, train = measure(Split.TRAIN)
    write_atomic(training_features_path(args.models, kind), encode_training_features(train, card.sha256))
    print(f"{len(train.y_true)} training cells: features written")
    validation_cells, logits, validation = measure(Split.VALIDATION)
    known_train, known = train.y_true < len(card.classes), validation.y_true < len(card.classes)
    known_cells = [cell for cell, is_known in zip(validation_cells, known, strict=True) if is_known]
    if card.unknown_kinds:
        weights = laboratory_balanced_weights(known_cells)
        threshold = fit_unknown_threshold(logits[known], weights, card.temperature, len(card.unknown_kinds))
        card = card.model_copy(update={"unknown_threshold": threshold})
        print(f"threshold for kinds that no class fits: {threshold}")
    if card.familiarity is None:
        rule = fit_familiarity(
            train.features[known_train],
            train.y_true[known_train],
            validation.features[known],
            known_cells,
            context.recipe.familiarity,
        )
        card = card.model_copy(update={"familiarity": rule})
        print(f"largest mean distance of a familiar slide: {rule.max_mean_distance}")
    write_atomic(args.models / f"{args.reader}.json", encode_card(card))


def _run(
    cells: Sequence[CellRef], model: OnnxModel[CellClassifierCard]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the classifier's logits (N, outputs) and features (N, D) of cells."""
    batches = [cells[start : start + _BATCH] for start in range(0, len(cells), _BATCH)]
    margin = model.card.crop_margin
    outputs = [model.run(preprocess_cells(batch, margin), LOGITS, FEATURES) for batch in batches]
    logits, features = zip(*outputs, strict=True)
    return np.concatenate(logits), np.concatenate(features)


if __name__ == "__main__":
    main()

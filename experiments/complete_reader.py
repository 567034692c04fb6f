"""`python -m experiments.complete_reader`: add to a trained reader what `wbctool train` has come to write since.

That is the rule for unfamiliar slides in its card, if it has none, and the features of training cells beside it. The
ONNX file stays as it is. ``--data`` are the data that the reader was trained on; other data sets there are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.familiarity import fit_familiarity
from wbctool_training.train import make_context

from experiments.options import context_arguments, make_parser
from wbctool.datasets.labelled import GroupSplit, Split, evenly_spaced
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import CellClassifierCard, ClassifierCard, CompactCard, kind_name, load_fp32_card
from wbctool.inference.model_folder import encode_card
from wbctool.inference.session import FEATURES, OnnxModel
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

    def measure(split: Split) -> tuple[list[CellRef], TrainingFeatures]:
        chosen = evenly_spaced([cell for cell in cells if group_split.assign(cell) is split], _CELLS)
        y_true = np.array([outputs.index(cell.label) for cell in chosen if cell.label is not None])
        return chosen, TrainingFeatures(_compute_features(chosen, model), y_true)

    _, train = measure(Split.TRAIN)
    write_atomic(training_features_path(args.models, kind), encode_training_features(train, card.sha256))
    print(f"{len(train.y_true)} training cells: features written")
    if card.familiarity is not None:
        return
    validation_cells, validation = measure(Split.VALIDATION)
    known_train, known = train.y_true < len(card.classes), validation.y_true < len(card.classes)
    rule = fit_familiarity(
        train.features[known_train],
        train.y_true[known_train],
        validation.features[known],
        [cell for cell, is_known in zip(validation_cells, known, strict=True) if is_known],
        context.recipe.familiarity,
    )
    write_atomic(args.models / f"{args.reader}.json", encode_card(card.model_copy(update={"familiarity": rule})))
    print(f"largest mean distance of a familiar slide: {rule.max_mean_distance}")


def _compute_features(cells: Sequence[CellRef], model: OnnxModel[CellClassifierCard]) -> NDArray[np.float32]:
    """Return the classifier's features of cells, (N, D)."""
    batches = [cells[start : start + _BATCH] for start in range(0, len(cells), _BATCH)]
    margin = model.card.crop_margin
    return np.concatenate([model.run(preprocess_cells(batch, margin), FEATURES)[0] for batch in batches])


if __name__ == "__main__":
    main()

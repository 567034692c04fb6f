"""`python -m experiments.fit_familiarity`: add the rule for unfamiliar slides to the card of a trained first reader.

`wbctool train` writes the rule into the cards of the readers that it trains. This does it for a first reader that was
trained before there was such a rule; its ONNX file stays as it is. ``--data`` are the data that it was trained on.
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
from wbctool.inference.model_card import ClassifierCard, load_fp32_card
from wbctool.inference.model_folder import encode_card
from wbctool.inference.session import FEATURES, OnnxModel
from wbctool.store.atomic_write import write_atomic

_CELLS = 1500  # of each split
_BATCH = 64


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, measure the features and write the card."""
    parser = make_parser(__doc__)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="whose classifier.json is changed")
    args = parser.parse_args(argv)
    card = load_fp32_card(args.models, ClassifierCard)
    group_split = GroupSplit.from_card(card.training)
    context = make_context(**context_arguments(args) | {"out": args.out, "group_split": group_split})
    cells = [cell for cell in context.load_cells() if cell.label in card.classes]
    by_split = {
        split: evenly_spaced([cell for cell in cells if group_split.assign(cell) is split], _CELLS)
        for split in (Split.TRAIN, Split.VALIDATION)
    }
    model = load_model(args.models, ClassifierCard)
    features = {split: _compute_features(members, model) for split, members in by_split.items()}
    y_true = np.array([card.classes.index(cell.label) for cell in by_split[Split.TRAIN] if cell.label is not None])
    rule = fit_familiarity(
        features[Split.TRAIN],
        y_true,
        features[Split.VALIDATION],
        by_split[Split.VALIDATION],
        context.recipe.familiarity,
    )
    write_atomic(args.models / "classifier.json", encode_card(card.model_copy(update={"familiarity": rule})))
    print(f"largest mean distance of a familiar slide: {rule.max_mean_distance}")


def _compute_features(cells: Sequence[CellRef], model: OnnxModel[ClassifierCard]) -> NDArray[np.float32]:
    """Return the classifier's features of cells, (N, D)."""
    batches = [cells[start : start + _BATCH] for start in range(0, len(cells), _BATCH)]
    margin = model.card.crop_margin
    return np.concatenate([model.run(preprocess_cells(batch, margin), FEATURES)[0] for batch in batches])


if __name__ == "__main__":
    main()

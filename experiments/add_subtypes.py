"""`python -m experiments.add_subtypes`: teach a second reader that is already trained to tell finer kinds of cells.

This is no experiment alone: the shipped second reader's layer of subtypes was made by it (docs/models.md), because the
reader is older than that layer.

The layer that `wbctool train --stage compact` fits after a training is fitted to the features of the reader of
``--models``, whose other outputs stay as they are. ``--data`` are the data that it was trained on; other data sets
there are left out. The reader is written to ``--out``, with its card and the features of its training cells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.export import store_weights_fp16, write_model
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe_files import load_recipe
from wbctool_training.subtypes import fit_subtypes
from wbctool_training.train import make_context

from experiments.options import make_parser
from wbctool.datasets.labelled import GroupSplit, Split
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import CompactCard, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import FEATURES, SUBTYPES
from wbctool.inference.training_features import (
    encode_training_features,
    read_training_features,
    training_features_path,
)

_BATCH = 64


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, fit the layer and write the reader with it."""
    parser = make_parser(__doc__)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR", help="the folder of the second reader")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="as of `wbctool train`")
    args = parser.parse_args(argv)
    card, model = load_fp32_card(args.models, CompactCard), load_model(args.models, CompactCard)
    if card.subtypes:
        raise SettingsInvalid(f"{args.models / card.file} tells subtypes already: {', '.join(card.subtypes)}")
    group_split = GroupSplit.from_card(card.training)
    options = TrainingOptions(data=args.data, out=args.out, group_split=group_split, labels=args.labels)
    context = make_context(options, load_recipe("default"))
    cells = [cell for cell in context.load_cells() if cell.dataset in (card.training.datasets or ())]

    def measure_features(some: Sequence[CellRef]) -> NDArray[np.float32]:
        batches = [some[start : start + _BATCH] for start in range(0, len(some), _BATCH)]
        return np.concatenate([model.run(preprocess_cells(batch, card.crop_margin), FEATURES)[0] for batch in batches])

    train, validation = (
        [cell for cell in cells if group_split.assign(cell) is split] for split in (Split.TRAIN, Split.VALIDATION)
    )
    subtypes = fit_subtypes(train, validation, measure_features)
    if subtypes is None:
        raise LabelledDataInvalid("too few cells of each subtype of a class")
    content = add_layer(read_model_bytes(card, args.models), subtypes.layer)
    card = card.model_copy(update={"subtypes": subtypes.subtypes, "subtype_threshold": subtypes.threshold})
    features = encode_training_features(read_training_features(args.models, card), hashlib.sha256(content).hexdigest())
    path = write_model(content, card, args.out, {training_features_path(args.out, CompactCard): features})
    print(f"{path} written: {', '.join(subtypes.subtypes)}, named from a probability of {subtypes.threshold:g}")


def add_layer(content: bytes, layer: nn.Linear) -> bytes:
    """Add the output of the subtypes' logits to a classifier.

    Args:
        content: Its ONNX file, with the output of the features.
        layer: Gives the logits of the features.

    Returns:
        The new ONNX file; its large weights are stored in half precision.
    """
    model = onnx.load_from_string(content)
    names = [f"{SUBTYPES}.weight", f"{SUBTYPES}.bias"]
    for name, values in zip(names, (layer.weight, layer.bias), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(values.detach().numpy(), name))
    model.graph.node.append(helper.make_node("Gemm", [FEATURES, *names], [SUBTYPES], name=SUBTYPES, transB=1))
    shape: list[str | int | None] = ["batch", layer.out_features]
    model.graph.output.append(helper.make_tensor_value_info(SUBTYPES, TensorProto.FLOAT, shape))
    new: bytes = store_weights_fp16(model).SerializeToString()
    return new


if __name__ == "__main__":
    main()

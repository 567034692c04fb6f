"""`python -m experiments.export_again SLIDES`: write a classifier anew as training exports it now.

The first reader of ``--models`` keeps its weights, its card and the features of its training cells. The cells of SLIDES
go through both files, and the largest difference of their logits is printed. With ``--write`` the new file replaces the
old one.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from wbctool_training.export import ClassifierGraph, check_parity, to_onnx, write_model
from wbctool_training.init_from import load_network

from experiments.merge_upsampling import find_crops
from wbctool.imaging.resize import resize_square
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import LOGITS, create_session
from wbctool.inference.training_features import (
    encode_training_features,
    read_training_features,
    training_features_path,
)


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, export, compare, and write the new file if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, help="a folder of slides or fields")
    parser.add_argument("--models", type=Path, default=default_models_dir(), metavar="DIR")
    parser.add_argument("--cells", type=int, default=16, metavar="N", help="how many cells to compare on")
    parser.add_argument("--write", action="store_true", help="replace classifier.onnx, and its hash where it is noted")
    args = parser.parse_args(argv)
    card = load_fp32_card(args.models, ClassifierCard)
    old = read_model_bytes(card, args.models)
    crops = find_crops(args.slides, args.models, args.cells)
    rgb = np.stack([resize_square(crop.rgb, card.input_px) for crop in crops])
    graph = ClassifierGraph(load_network(old, card), len(card.classes))
    new = to_onnx(graph, rgb, dynamic_side=False).SerializeToString()
    check_parity(graph, new, [rgb[:1], rgb], tolerance=1e-3)
    before, after = (create_session(card, content, threads=1).run(rgb, LOGITS)[0] for content in (old, new))
    print(f"{len(rgb)} cells: logits at most {np.abs(after - before).max():.2g} apart")
    if args.write:
        features = read_training_features(args.models, card)
        encoded = encode_training_features(features, hashlib.sha256(new).hexdigest())
        path = training_features_path(args.models, ClassifierCard)
        print(f"{write_model(new, card, args.models, {path: encoded})} written")


if __name__ == "__main__":
    main()

"""`python -m experiments.merge_upsampling SLIDES`: make a generator that was exported earlier faster.

The generator of ``--models`` is rewritten as training exports it now (wbctool_training.upsampling), with the weights
that it has. The cells of SLIDES go through both graphs, at the sides that a run gives them, and the differences and the
processor's time are printed. With ``--write`` the new file replaces the old one, and the card gets its hash.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from wbctool_training.export import write_model
from wbctool_training.upsampling import merge_upsampling

from wbctool.imaging.crop import crop_cells
from wbctool.imaging.formats import is_image
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import ClassifierCard, DetectorCard, GeneratorCard, default_models_dir, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import SUPER_RESOLVED, OnnxModel, create_session
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import Crop


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, compare both graphs, and write the new one if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path, help="a folder of slides or fields")
    parser.add_argument("--models", type=Path, default=default_models_dir(), metavar="DIR")
    parser.add_argument("--cells", type=int, default=60, metavar="N", help="how many cells to compare on")
    parser.add_argument("--write", action="store_true", help="replace generator.onnx and its card")
    args = parser.parse_args(argv)
    card = load_fp32_card(args.models, GeneratorCard)
    content = read_model_bytes(card, args.models)
    merged = merge_upsampling(onnx.load_from_string(content))
    inputs = find_inputs(args.slides, args.models, card, args.cells)
    old = create_session(card, content, threads=1)
    new = create_session(card, merged.SerializeToString(), threads=1)
    print(format_comparison(inputs, old, new))
    if args.write:
        print(f"{write_model(merged, card, args.models)} written")


def find_inputs(slides: Path, models: Path, card: GeneratorCard, n_cells: int) -> list[NDArray[np.uint8]]:
    """Find cells and bring them to a side that the generator takes: their own or, for larger ones, each in turn.

    Args:
        slides: A folder of images, at any depth.
        models: The folder of the models.
        card: The generator's card.
        n_cells: How many cells.

    Returns:
        (1, s, s, 3) uint8 RGB each.
    """
    inputs: list[NDArray[np.uint8]] = []
    for crop in find_crops(slides, models, n_cells):
        in_turn = card.min_px + len(inputs) % (card.max_px - card.min_px + 1)
        side = max(card.min_px, crop.side_px) if crop.side_px <= card.max_px else in_turn
        inputs.append(resize_square(crop.rgb, side)[None])
    return inputs


def find_crops(slides: Path, models: Path, n_cells: int) -> list[Crop]:
    """Find cells and cut them as a run does.

    Args:
        slides: A folder of images, at any depth.
        models: The folder of the models.
        n_cells: How many cells.
    """
    detector, margin = load_model(models, DetectorCard), load_fp32_card(models, ClassifierCard).crop_margin
    crops: list[Crop] = []
    for path in sorted(path for path in slides.rglob("*") if is_image(path)):
        field = read_field(path)
        crops += crop_cells(field, [cell.box for cell in detect_cells(field, detector)], margin)
        if len(crops) >= n_cells:
            break
    return crops[:n_cells]


def format_comparison(
    inputs: Sequence[NDArray[np.uint8]], old: OnnxModel[GeneratorCard], new: OnnxModel[GeneratorCard]
) -> str:
    """Compare two generators in gray levels and in the processor's time, taking turns.

    Args:
        inputs: (1, s, s, 3) uint8 RGB each.
        old: The one before.
        new: The one to compare with it.
    """
    largest, n_changed, n_values = 0, 0, 0
    seconds = {id(old): 0.0, id(new): 0.0}
    for lr in inputs:
        images = []
        for model in (old, new):
            start = os.times().user
            (image,) = model.run(lr, SUPER_RESOLVED)
            seconds[id(model)] += os.times().user - start
            images.append(image.astype(int))
        difference = np.abs(images[0] - images[1])
        largest, n_changed = max(largest, int(difference.max())), n_changed + int(np.count_nonzero(difference))
        n_values += difference.size
    before, after = seconds[id(old)], seconds[id(new)]
    return (
        f"{len(inputs)} cells: at most {largest} gray levels apart, {n_changed} of {n_values} values differ; "
        f"{1000 * before / len(inputs):.0f} ms of processor time a cell before, "
        f"{1000 * after / len(inputs):.0f} ms now"
    )


if __name__ == "__main__":
    main()

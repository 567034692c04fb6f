"""`python -m benchmarks.pytorch_baseline SLIDES OUT.csv --batch N --device cpu|cuda`: OpenCV and PyTorch.

What one would write from the paper's notebooks: a threshold on blue minus green, contours, square crops and VGG19 in
eager mode. It shares only the trained weights and the crop's margin with wbctool. Crops of more than 64 pixels are
resampled, as in `wbctool run --super-resolve auto`; smaller ones end the benchmark, because wbctool would
super-resolve them and the times would not be comparable.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import torch
from wbctool_training.init_from import load_classifier_weights
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier

from wbctool.datasets.labelled import GroupSplit
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card

_MIN_NUCLEUS_AREA_PX = 1500


def main() -> None:
    """Parse the options, classify the cells and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slides", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args()
    folder = default_models_dir()
    card = load_fp32_card(folder, ClassifierCard)
    outputs = (*card.classes, *card.unknown_kinds)
    network = NormalizedClassifier(CellClassifier(len(outputs)), card.training.white_balance)
    network.load_state_dict(load_classifier_weights(folder, outputs, GroupSplit.from_card(card.training)))
    network.to(args.device).eval()
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("slide", *card.classes))
        for slide in sorted(path for path in args.slides.iterdir() if path.is_dir()):
            counts: Counter[int] = Counter()
            pending: list[np.ndarray] = []
            for path in sorted(slide.iterdir()):
                pending += crop_cells(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), card.crop_margin)
                while len(pending) >= args.batch:
                    counts.update(classify(network, pending[: args.batch]))
                    del pending[: args.batch]
            if pending:
                counts.update(classify(network, pending))
            writer.writerow((slide.name, *(counts[index] for index in range(len(card.classes)))))


def crop_cells(rgb: np.ndarray, margin: float) -> list[np.ndarray]:
    """Find nuclei and crop their cells.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        margin: Side of the crop, relative to the box.

    Returns:
        (128, 128, 3) uint8 RGB each.

    Raises:
        SystemExit: A crop has 64 pixels or less.
    """
    stain = cv2.subtract(rgb[..., 2], rgb[..., 1])
    mask = cv2.threshold(stain, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    cells = []
    for contour in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        if cv2.contourArea(contour) < _MIN_NUCLEUS_AREA_PX:
            continue
        x, y, width, height = cv2.boundingRect(contour)
        side = min(round(max(width, height) * margin * 1.15), *rgb.shape[:2])
        if side <= 64:
            raise SystemExit(
                "a cell is so small that wbctool would super-resolve it: use fields of a higher magnification"
            )
        left = min(max(0, x + width // 2 - side // 2), rgb.shape[1] - side)
        top = min(max(0, y + height // 2 - side // 2), rgb.shape[0] - side)
        cells.append(cv2.resize(rgb[top : top + side, left : left + side], (128, 128), interpolation=cv2.INTER_AREA))
    return cells


@torch.inference_mode()
def classify(network: NormalizedClassifier, cells: list[np.ndarray]) -> list[int]:
    """Return the class index of each cell.

    Args:
        network: The classifier.
        cells: (128, 128, 3) uint8 RGB each.
    """
    batch = torch.from_numpy(np.stack(cells)).to(network.mean.device).permute(0, 3, 1, 2)
    classes: list[int] = network(batch).argmax(dim=1).tolist()
    return classes


if __name__ == "__main__":
    main()

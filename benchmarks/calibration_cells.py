"""Make the bundled cells for the calibration of int8 copies, in wbctool/quantization/calibration/.

    python -m benchmarks.calibration_cells --fields bccd_fields --cells pbc

Only cells of training groups are used, at most one per group, found and cropped as in a run.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from wbctool_training.data.cell_index import CellRef, crop_cell, detect_field_cells, detect_image_cells

from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.fields import read_fields
from wbctool.datasets.labelled import GroupSplit, Split
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import ClassifierCard, DetectorCard, default_models_dir, load_fp32_card
from wbctool.quantization.calibration_data import BUNDLED_DIR, SHEET_FILE, TABLE_FILE, tile_images
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX

_N_FIELD_CELLS, _N_PER_CLASS = 40, 7
_JPEG_QUALITY = 90


def main() -> None:
    """Parse the options, find the cells and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=Path, required=True, help="a folder of fields with boxes.csv")
    parser.add_argument("--cells", type=Path, required=True, help="class folders of single-cell images")
    parser.add_argument("--models", type=Path, default=default_models_dir())
    parser.add_argument("--out", type=Path, default=BUNDLED_DIR)
    args = parser.parse_args()
    cells = choose_cells(args.fields, args.cells, args.models)
    margin = load_fp32_card(args.models, ClassifierCard).crop_margin
    sheet = tile_images(np.stack([resize_square(crop_cell(cell, margin), CLASSIFIER_INPUT_PX) for cell in cells]))
    args.out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(
        str(args.out / SHEET_FILE), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    with (args.out / TABLE_FILE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("origin", "image", "label", "source"))
        writer.writerows((cell.dataset, cell.path.name, cell.label or "", cell.group) for cell in cells)
    print(f"{len(cells)} cells, {(args.out / SHEET_FILE).stat().st_size / 1e6:.2f} MB")


def choose_cells(fields: Path, class_folders: Path, models: Path) -> list[CellRef]:
    """Choose 40 random cells of fields and 7 of each class of the class folders, in random order.

    Args:
        fields: A folder of fields with boxes.
        class_folders: Class folders of single-cell images.
        models: Folder of the models; the detector is used.
    """
    rng, group_split = random.Random(0), GroupSplit()  # noqa: S311
    detector = load_model(models, DetectorCard)
    train_fields = [field for field in read_fields(fields) if group_split.assign(field) is Split.TRAIN]
    rng.shuffle(train_fields)
    cells = list(take_one_per_group(detect_field_cells(train_fields, detector), _N_FIELD_CELLS))
    by_class = defaultdict(list)
    for image in read_class_folders(class_folders):
        if group_split.assign(image) is Split.TRAIN:
            by_class[image.label].append(image)
    for label in sorted(by_class):
        rng.shuffle(by_class[label])
        cells += take_one_per_group(detect_image_cells(by_class[label], detector), _N_PER_CLASS)
    rng.shuffle(cells)
    return cells


def take_one_per_group(cells: Iterable[CellRef], n_cells: int) -> Iterator[CellRef]:
    """Yield at most ``n_cells`` cells, no two of one group.

    Args:
        cells: The cells.
        n_cells: How many.
    """
    groups: set[str] = set()
    for cell in cells:
        if cell.group not in groups:
            groups.add(cell.group)
            yield cell
        if len(groups) == n_cells:
            return


if __name__ == "__main__":
    main()

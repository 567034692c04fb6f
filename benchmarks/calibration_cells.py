"""Makes the cells that come with wbctool for calibrating int8 copies: wbctool/calibration/cells.jpg and cells.csv.

    python -m benchmarks.calibration_cells --fields bccd_fields --cells pbc

Cells of training sources alone, at most one a source, cut by wbctool's own detector and cropper.
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

from training.data.cells import CellSample, cells_of_fields, cells_of_images, cut_cell
from wbctool.cards import ClassifierCard, DetectorCard, default_models_dir, plain_card
from wbctool.lab.calibration_cells import PACKAGED, SHEET, TABLE, lay_sheet
from wbctool.lab.labelled import Split, Splitting, read_class_folders, read_fields
from wbctool.models import load_model
from wbctool.stages.upscale import PREPARED_PX, resize_square

_OF_FIELDS, _OF_EACH_CLASS = 40, 7
_QUALITY = 90


def main() -> None:
    """Read the options, find the cells, write them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--fields", type=Path, required=True, help="a folder of fields with boxes.csv")
    options.add_argument("--cells", type=Path, required=True, help="class folders of single-cell images")
    options.add_argument("--models", type=Path, default=default_models_dir())
    options.add_argument("--out", type=Path, default=PACKAGED)
    chosen = options.parse_args()
    cells = choose_cells(chosen.fields, chosen.cells, chosen.models)
    margin = plain_card(chosen.models, ClassifierCard).crop_margin
    sheet = lay_sheet(np.stack([resize_square(cut_cell(cell, margin), PREPARED_PX) for cell in cells]))
    chosen.out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(chosen.out / SHEET), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    with (chosen.out / TABLE).open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(("origin", "image", "label", "source"))
        table.writerows((cell.origin, cell.path.name, cell.label or "", cell.source) for cell in cells)
    print(f"{len(cells)} cells, {(chosen.out / SHEET).stat().st_size / 1e6:.2f} MB")


def choose_cells(fields: Path, class_folders: Path, models: Path) -> list[CellSample]:
    """Of the fields the first cells in a shuffled order, of the folders as many of each class; then all shuffled."""
    draw, splitting = random.Random(0), Splitting()  # noqa: S311
    detector = load_model(models, DetectorCard)
    of_fields = [field for field in read_fields(fields) if splitting.of(field) is Split.TRAIN]
    draw.shuffle(of_fields)
    cells = list(first_of_each_source(cells_of_fields(of_fields, detector), _OF_FIELDS))
    by_class = defaultdict(list)
    for image in read_class_folders(class_folders):
        if splitting.of(image) is Split.TRAIN:
            by_class[image.label].append(image)
    for label in sorted(by_class):
        draw.shuffle(by_class[label])
        cells += first_of_each_source(cells_of_images(by_class[label], detector), _OF_EACH_CLASS)
    draw.shuffle(cells)
    return cells


def first_of_each_source(cells: Iterable[CellSample], number: int) -> Iterator[CellSample]:
    """At most ``number`` cells, no two of one source."""
    seen: set[str] = set()
    for cell in cells:
        if cell.source not in seen:
            seen.add(cell.source)
            yield cell
        if len(seen) == number:
            return


if __name__ == "__main__":
    main()

"""`python -m benchmarks.unseen_laboratory TXL_FIELDS`: the classifier on Raabin, of which it learnt no class.

TXL_FIELDS is the folder of TXL-PBC's fields with ``sources.csv`` and ``boxes.csv``. It names no white cells;
``raabin_read.csv`` beside this file does: one of us, no haematologist, named the cell of each field from its crop,
without a model's answer beside it, and left it empty where that was in doubt. Of 25 of the fields that are not held
back, answers had been looked at before. White balance was chosen with the fields that are not held
back in view.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from wbctool.cards import default_models_dir
from wbctool.choices import Device, Precision, SuperResolve
from wbctool.lab.classification import LabelledCrop, predict, report_classifier
from wbctool.lab.labelled import LabelledField, LabelledImage, Split, Splitting, read_fields
from wbctool.labels import CellClass
from wbctool.models import Models, load_models
from wbctool.records import Target
from wbctool.stages.crop import crop_cells
from wbctool.stages.detect import detect_cells
from wbctool.stages.images import read_field

_READ = Path(__file__).with_name("raabin_read.csv")
_ORIGIN = "raabin"
_MATCH_IOU = 0.5


def main() -> None:
    """Read the options, name the cells, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("fields", type=Path)
    options.add_argument("--models", type=Path, default=default_models_dir())
    chosen = options.parse_args()
    models = load_models(chosen.models, Device.CPU, Precision.FP32)
    names = read_names(_READ)
    fields = [f for f in read_fields(chosen.fields) if f.origin == _ORIGIN and f.path.name in names]
    splitting = Splitting.of_card(models.classifier.card.training)
    for held_back in (False, True):
        part = [f for f in fields if (splitting.of(f) is Split.HELD_BACK) is held_back]
        print(f"\n{_ORIGIN}, {'held back' if held_back else 'the other fields'}")
        print_report(list(named_cells(part, names, models)), models)


def read_names(path: Path) -> dict[str, CellClass]:
    """The class of each field's cell; a field is left out where nobody could say."""
    with path.open(newline="", encoding="utf-8") as lines:
        return {row["image"]: CellClass(row["label"]) for row in csv.DictReader(lines) if row["label"]}


def named_cells(fields: list[LabelledField], names: dict[str, CellClass], models: Models) -> Iterator[LabelledCrop]:
    """Of each field the detected cell that lies where one is annotated; none where it was not found."""
    for labelled in fields:
        field = read_field(labelled.path)
        annotated = [b.box for b in labelled.boxes if b.target is Target.NUCLEATED]
        for found in detect_cells(field, models.detector):
            if any(found.box.iou(box) > _MATCH_IOU for box in annotated):
                image = LabelledImage(labelled.path, names[labelled.path.name], labelled.source, labelled.origin)
                (crop,) = crop_cells(field, [found.box], models.classifier.card.crop_margin)
                yield LabelledCrop(image, crop, found=True)
                break


def print_report(cells: list[LabelledCrop], models: Models) -> None:
    """Accuracy, what was counted, and what each class was called."""
    predictions = predict([cell.crop for cell in cells], models, SuperResolve.AUTO)
    report = report_classifier(_ORIGIN, cells, predictions, models.classifier.card.classes)
    low, high = report.accuracy_covered_ci95
    print(
        f"{report.images} cells: {report.accuracy:.3f} ({report.ci95_low:.3f} to {report.ci95_high:.3f}) right, "
        f"calibration error {report.calibration_error:.3f}; {report.covered:.3f} kept from review, "
        f"{report.accuracy_covered:.3f} ({low:.3f} to {high:.3f}) of them right"
    )
    for label in sorted({cell.image.label for cell in cells}):
        said = Counter(p.label for c, p in zip(cells, predictions, strict=True) if c.image.label is label)
        print(f"  {label.value}: " + ", ".join(f"{name.value} {n}" for name, n in said.most_common()))


if __name__ == "__main__":
    main()

"""`python -m experiments.unseen_laboratory TXL_FIELDS`: the classifier on Raabin, of which it learnt no class.

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

from wbctool.datasets.labelled import GroupSplit, LabelledField, LabelledImage, Split, read_fields
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.evaluation.classification import LabelledCrop, predict, summarize_classifier
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import default_models_dir
from wbctool.labels import CellClass
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import ObjectClass

_LABELS_CSV = Path(__file__).with_name("raabin_read.csv")
_DATASET = "raabin"
_MATCH_IOU = 0.5


def main() -> None:
    """Read the options, name the cells, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fields", type=Path)
    parser.add_argument("--models", type=Path, default=default_models_dir())
    args = parser.parse_args()
    models = load_models(args.models, Device.CPU, Precision.FP32)
    labels = read_labels(_LABELS_CSV)
    fields = [f for f in read_fields(args.fields) if f.dataset == _DATASET and f.path.name in labels]
    group_split = GroupSplit.from_card(models.classifier.card.training)
    for is_test in (False, True):
        subset = [f for f in fields if (group_split.assign(f) is Split.TEST) is is_test]
        print(f"\n{_DATASET}, {'held back' if is_test else 'the other fields'}")
        print_report(list(detect_labelled_cells(subset, labels, models)), models)


def read_labels(path: Path) -> dict[str, CellClass]:
    """The class of each field's cell; a field is left out where nobody could say."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"]: CellClass(row["label"]) for row in csv.DictReader(file) if row["label"]}


def detect_labelled_cells(
    fields: list[LabelledField], labels: dict[str, CellClass], models: Models
) -> Iterator[LabelledCrop]:
    """Of each field the detected cell that lies where one is annotated; none where it was not found."""
    for labelled in fields:
        field = read_field(labelled.path)
        annotated = [b.box for b in labelled.boxes if b.object_class is ObjectClass.NUCLEATED]
        for detection in detect_cells(field, models.detector):
            if any(detection.box.iou(box) > _MATCH_IOU for box in annotated):
                image = LabelledImage(labelled.path, labels[labelled.path.name], labelled.group, labelled.dataset)
                (crop,) = crop_cells(field, [detection.box], models.classifier.card.crop_margin)
                yield LabelledCrop(image, crop, is_detected=True)
                break


def print_report(cells: list[LabelledCrop], models: Models) -> None:
    """Accuracy, what was counted, and what each class was called."""
    predictions = predict([cell.crop for cell in cells], models, SuperResolve.AUTO)
    report = summarize_classifier(_DATASET, cells, predictions, models.classifier.card.classes)
    low, high = report.selective_accuracy_ci95
    print(
        f"{report.images} cells: {report.accuracy:.3f} ({report.ci95_low:.3f} to {report.ci95_high:.3f}) right, "
        f"calibration error {report.calibration_error:.3f}; {report.coverage:.3f} kept from review, "
        f"{report.selective_accuracy:.3f} ({low:.3f} to {high:.3f}) of them right"
    )
    for label in sorted({cell.image.label for cell in cells}):
        predicted = Counter(p.label for c, p in zip(cells, predictions, strict=True) if c.image.label is label)
        print(f"  {label.value}: " + ", ".join(f"{name.value} {n}" for name, n in predicted.most_common()))


if __name__ == "__main__":
    main()

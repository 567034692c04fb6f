"""`python -m experiments.unseen_laboratory TXL_FIELDS`: the classifier on Raabin, whose classes it was not trained on.

TXL_FIELDS is the folder of TXL-PBC's fields with ``sources.csv`` and ``boxes.csv``. It has no classes of white cells;
``raabin_read.csv`` beside this file has: one of us, not a hematologist, classified the cell of each field from its
crop without seeing a model's answer, and left doubtful ones empty. For 25 fields outside the test split, answers had
been seen before. White balance was chosen with the results of the fields outside the test split known.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from wbctool.datasets.fields import read_fields
from wbctool.datasets.labelled import GroupSplit, LabelledField, LabelledImage, Split
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


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, classify the cells and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", type=Path, metavar="TXL_FIELDS")
    parser.add_argument("--models", type=Path, default=default_models_dir(), metavar="DIR")
    args = parser.parse_args(argv)
    models = load_models(args.models, Device.CPU, Precision.FP32)
    labels = read_labels(_LABELS_CSV)
    fields = [f for f in read_fields(args.fields) if f.dataset == _DATASET and f.path.name in labels]
    group_split = GroupSplit.from_card(models.classifier.card.training)
    for is_test in (False, True):
        subset = [f for f in fields if (group_split.assign(f) is Split.TEST) is is_test]
        print(f"\n{_DATASET}, {'test split' if is_test else 'the other fields'}")
        print_report(list(detect_labelled_cells(subset, labels, models)), models)


def read_labels(path: Path) -> dict[str, CellClass]:
    """Read the class of each field's cell; fields without a class are left out.

    Args:
        path: CSV file with the columns image and label.

    Returns:
        Classes by the image's file name.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"]: CellClass(row["label"]) for row in csv.DictReader(file) if row["label"]}


def detect_labelled_cells(
    fields: list[LabelledField], labels: dict[str, CellClass], models: Models
) -> Iterator[LabelledCrop]:
    """Yield, for each field, the first detected cell that matches an annotated box; none if it was not detected.

    Args:
        fields: Fields with boxes.
        labels: Classes by file name.
        models: Detector and classifier.
    """
    for labelled in fields:
        field = read_field(labelled.path)
        annotated = [b.box for b in labelled.boxes if b.object_class is ObjectClass.NUCLEATED]
        for detection in detect_cells(field, models.detector):
            if any(detection.box.iou(box) > _MATCH_IOU for box in annotated):
                image = LabelledImage(labelled.path, labels[labelled.path.name], labelled.group, labelled.dataset)
                (crop,) = crop_cells(field, [detection.box], models.classifier.card.crop_margin)
                yield LabelledCrop(image, crop, is_detected=True, is_found=True)
                break


def print_report(cells: list[LabelledCrop], models: Models) -> None:
    """Print accuracy, coverage and how each class was classified.

    Args:
        cells: Labeled crops.
        models: Generator and classifier.
    """
    predictions = predict([cell.crop for cell in cells], models, SuperResolve.AUTO)
    report = summarize_classifier(_DATASET, cells, predictions, models.classifier.card.classes)
    low, high = report.selective_accuracy_ci95
    print(
        f"{report.images} cells: {report.accuracy:.3f} ({report.ci95_low:.3f} to {report.ci95_high:.3f}) correct, "
        f"calibration error {report.calibration_error:.3f}; {report.coverage:.3f} kept from review, "
        f"{report.selective_accuracy:.3f} ({low:.3f} to {high:.3f}) of them correct"
    )
    for label in sorted({cell.image.label for cell in cells}):
        predicted = Counter(p.label for c, p in zip(cells, predictions, strict=True) if c.image.label is label)
        print(f"  {label.value}: " + ", ".join(f"{name.value} {n}" for name, n in predicted.most_common()))


if __name__ == "__main__":
    main()

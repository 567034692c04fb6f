"""The readers of an experiment: trained without what is left out, and asked about it."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import train

from experiments.options import to_training_options
from wbctool.adaptation.cells import AdaptationCell
from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields
from wbctool.datasets.labelled import GroupSplit, HasGroup
from wbctool.enums import Device, Precision, Readers, TrainStage
from wbctool.errors import SettingsInvalid
from wbctool.evaluation.evaluate import evaluate
from wbctool.evaluation.labelled_data import read_evaluation_data
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.loading import Models, load_models
from wbctool.inference.model_card import default_models_dir
from wbctool.labels import CellClass


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`train_readers` and :func:`evaluate_readers`."""
    parser.add_argument("--also-train-on", type=Path, action="append", default=[], metavar="DIR", help="more data")
    parser.add_argument("--together", action="store_true", help="train once, without any of what is left out")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="as of `wbctool train`")
    parser.add_argument("--first-reader", type=Path, default=default_models_dir(), metavar="DIR", help="its models")
    parser.add_argument("--readers", type=Readers, choices=Readers, default=Readers.BOTH)
    parser.add_argument("--train-first", metavar="RECIPE", help="train the first reader too, by this recipe")


def is_trained_afresh(recipe: str | None) -> bool:
    """Return whether the first reader is trained by a recipe that asks for no models to start from."""
    return recipe is not None and not load_recipe(recipe).requires_init


def check_unseen(cells: Sequence[AdaptationCell], models: Models) -> None:
    """Raise SettingsInvalid if a model was trained or calibrated on these cells' data sets."""
    datasets = {cell.group.partition("/")[0] for cell in cells}
    for model in (models.classifier, models.second):
        if model is not None and (
            seen := sorted(datasets & {*(model.card.training.datasets or ()), *model.card.training.calibrated_on})
        ):
            raise SettingsInvalid(f"{model.card.file} was trained or calibrated on {', '.join(seen)}")


def train_readers(folder: Path, args: argparse.Namespace, recipe: str, left_out: Sequence[str] = ()) -> None:
    """Train the second reader and, with ``--train-first``, the first; what the folder already has is kept.

    Args:
        folder: The folder of the models.
        args: The parsed options.
        recipe: The second reader's.
        left_out: Data sets that the readers must not see.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = replace(
        to_training_options(args),
        data=[*args.data, *args.also_train_on],
        out=folder,
        group_split=GroupSplit(args.fold, (*args.hold_out_dataset, *left_out)),
        labels=args.labels,
    )
    has_classifier = args.readers is not Readers.COMPACT and not args.train_first
    for name in ("detector", "generator", *(("classifier",) if has_classifier else ())):
        for suffix in ("onnx", "json"):
            shutil.copy(args.first_reader / f"{name}.{suffix}", folder)
    if args.readers is not Readers.VGG19 and not (folder / "compact.json").is_file():
        train(options, recipe, TrainStage.COMPACT)
    if args.train_first and not (folder / "classifier.json").is_file():
        start = [] if is_trained_afresh(args.train_first) else [args.first_reader]
        train(replace(options, init_from=start), args.train_first, TrainStage.CLASSIFIER)


def evaluate_readers(folder: Path, args: argparse.Namespace, left_out: Collection[str] = ()) -> list[EvaluatedCell]:
    """Return the cells of ``--data`` with the readers' answers, before the rule for unfamiliar slides.

    Left out are cells of classes that the readers do not have: all of them would be wrong.

    Args:
        folder: The folder of the models.
        args: The parsed options.
        left_out: Data sets; if there are any, folders that hold none of them are passed over.
    """
    models = load_models(folder, Device.AUTO, Precision.FP32, args.readers)
    for model in (models.classifier, models.second):
        if model is not None:
            model.card = model.card.model_copy(update={"familiarity": None})
    field_labels = read_cell_labels(args.labels) if args.labels else {}
    cells: list[EvaluatedCell] = []
    for folder_of_data in args.data:
        folders = find_field_folders(folder_of_data)
        names = {field.path.name for fields in folders for field in read_fields(fields)}
        labels_there = {image: kind for image, kind in field_labels.items() if image in names}
        found = read_evaluation_data(folder_of_data, models, None, labels_there)
        items: list[HasGroup] = [*found.images, *found.unknown_images, *found.fields]
        if left_out and {item.dataset for item in items}.isdisjoint(left_out):
            continue
        result = evaluate(folder_of_data, models, [], None, sr_cells=0, ood_images=0, field_labels=labels_there)
        cells += result.cells
    classes = models.classifier.card.classes
    return [cell for cell in cells if not isinstance(cell.kind, CellClass) or cell.kind in classes]

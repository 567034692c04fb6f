"""`python -m experiments.left_out_laboratory`: what the readers do in laboratories that they were not trained on.

The second reader is trained once without each laboratory of ``--leave-out``, or once without all of them
(``--together``). The first reader is that of ``--first-reader``, whose card must not name the laboratory; with
``--train-first`` it is trained on the other laboratories too, further or, by a recipe that asks for no start, from
ImageNet's weights. Both then classify all cells of the laboratory, which must be in ``--data``; with ``--readers`` one
of them does so alone. From their answers follow, for each smallest confidence that the rule for unfamiliar slides may
demand, the silent errors and the coverage; for each laboratory the confidence is chosen on the others alone.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import train

from experiments.options import add_training_options, make_parser, to_training_options
from wbctool.datasets.class_folders import read_single_cell_images
from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields
from wbctool.datasets.labelled import GroupSplit, HasGroup
from wbctool.enums import Device, Precision, Readers, TrainStage
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.evaluation.evaluate import evaluate
from wbctool.evaluation.labelled_data import read_evaluation_data
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.labels import CellClass
from wbctool.store.atomic_write import write_atomic
from wbctool.types.cells import Outcome

CONFIDENCES = tuple(round(0.01 * percent, 2) for percent in range(50, 100))
MAX_SILENT_ERRORS = 0.015  # half of what is asked for in a laboratory never seen, since such a choice is optimistic
MAX_UNKNOWN_COUNTED = 0.10  # of the cells of kinds that no class fits
RESULT = "left-out-laboratories.md"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What the rule for unfamiliar slides gives in one laboratory.

    Attributes:
        silent_errors: The share of silent errors among the cells of known classes, in [0, 1].
        coverage: Counted cells among these, in [0, 1].
        unknown_counted: Counted cells among those of kinds that no class fits; None without such cells.
        unknown_in_review: Cells in review among these; the others were filed as not_wbc or not found.
    """

    silent_errors: float
    coverage: float
    unknown_counted: float | None
    unknown_in_review: float | None


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, train, evaluate, and write and print the table."""
    parser = make_parser(__doc__)
    add_training_options(parser)
    add_reader_options(parser)
    parser.add_argument("--leave-out", action="append", required=True, metavar="DATASET", help="may be repeated")
    args = parser.parse_args(argv)
    if args.readers is not Readers.COMPACT and not _is_trained_afresh(args.train_first):
        _check_first_reader(args.first_reader, args.leave_out)
    _check_left_out(args)
    cells: dict[str, list[EvaluatedCell]] = {}
    for left_out in [args.leave_out] if args.together else [[name] for name in args.leave_out]:
        folder = args.out / "-".join(left_out)
        train_readers(folder, args, args.recipe, left_out)
        evaluated = evaluate_readers(folder, args, left_out)
        cells |= {name: [cell for cell in evaluated if cell.dataset == name] for name in left_out}
    table = format_table(cells)
    write_atomic(args.out / RESULT, table.encode())
    print(table)


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`train_readers` and :func:`evaluate_readers`."""
    parser.add_argument("--also-train-on", type=Path, action="append", default=[], metavar="DIR", help="more data")
    parser.add_argument("--together", action="store_true", help="train once, without any of what is left out")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="as of `wbctool train`")
    parser.add_argument("--first-reader", type=Path, default=default_models_dir(), metavar="DIR", help="its models")
    parser.add_argument("--readers", type=Readers, choices=Readers, default=Readers.BOTH)
    parser.add_argument("--train-first", metavar="RECIPE", help="train the first reader too, by this recipe")


def measure_rule(cells: Sequence[EvaluatedCell], min_confidence: float) -> OperatingPoint:
    """Measure the rule for unfamiliar slides on the cells of one laboratory.

    Args:
        cells: The cells with both readers' answers, before the rule.
        min_confidence: What the rule demands of the mean of both readers.
    """
    known = [cell for cell in cells if isinstance(cell.kind, CellClass)]
    unknown = [cell for cell in cells if not isinstance(cell.kind, CellClass)]
    kept = [cell for cell in known if is_sure(cell, min_confidence)]
    unknown_counted = [cell.is_counted and is_sure(cell, min_confidence) for cell in unknown]
    unknown_in_review = [cell.is_found and not is_sure(cell, min_confidence) for cell in unknown]
    return OperatingPoint(
        silent_errors=sum(cell.is_silent_error for cell in kept) / len(known),
        coverage=sum(cell.is_counted for cell in kept) / len(known),
        unknown_counted=sum(unknown_counted) / len(unknown) if unknown else None,
        unknown_in_review=sum(unknown_in_review) / len(unknown) if unknown else None,
    )


def is_sure(cell: EvaluatedCell, min_confidence: float) -> bool:
    """Return whether a cell would be counted if the readers had to give its label at least this probability.

    A platelet or another cell outside the differential, which a run sets aside, is sure too.
    """
    return cell.prediction.confidence >= min_confidence and not cell.has_outcome(Outcome.NEEDS_REVIEW)


def choose_min_confidence(laboratories: Mapping[str, Sequence[EvaluatedCell]]) -> float:
    """Choose the smallest confidence at which no laboratory has too many silent errors or unknown kinds counted.

    Args:
        laboratories: The cells of each laboratory.

    Returns:
        The confidence, of CONFIDENCES; the largest if none is enough.
    """
    for confidence in CONFIDENCES:
        points = [measure_rule(cells, confidence) for cells in laboratories.values()]
        if all(
            point.silent_errors <= MAX_SILENT_ERRORS and (point.unknown_counted or 0) <= MAX_UNKNOWN_COUNTED
            for point in points
        ):
            return confidence
    return CONFIDENCES[-1]


def format_table(laboratories: Mapping[str, Sequence[EvaluatedCell]]) -> str:
    """Return a Markdown table: for each laboratory, the confidence chosen on the others, and what it gives here.

    If there is only one laboratory, it is chosen on itself, as the table then says.

    Args:
        laboratories: The cells of each laboratory.
    """
    chosen_on = "the others" if len(laboratories) > 1 else "these cells"
    lines = [
        f"| laboratory | cells | right | confidence chosen on {chosen_on} | silent errors | counted | "
        "unknown kinds counted | in review |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, cells in laboratories.items():
        others = {other: members for other, members in laboratories.items() if other != name}
        confidence = choose_min_confidence(others or laboratories)
        known = [cell for cell in cells if isinstance(cell.kind, CellClass)]
        accuracy = sum(cell.is_correct for cell in known) / len(known)
        point = measure_rule(cells, confidence)
        unknown = "- | -"
        if point.unknown_counted is not None:
            unknown = f"{point.unknown_counted:.1%} of {len(cells) - len(known)} | {point.unknown_in_review:.1%}"
        lines.append(
            f"| {name} | {len(known)} | {accuracy:.1%} | {confidence:.2f} | {point.silent_errors:.1%} | "
            f"{point.coverage:.1%} | {unknown} |"
        )
    lines += ["", f"Chosen on all of them: {choose_min_confidence(laboratories):.2f}.", ""]
    return "\n".join(lines)


def _is_trained_afresh(recipe: str | None) -> bool:
    """Return whether the first reader is trained by a recipe that asks for no models to start from."""
    return recipe is not None and not load_recipe(recipe).requires_init


def _check_first_reader(folder: Path, left_out: Sequence[str]) -> None:
    """Raise SettingsInvalid if the first reader was trained on a laboratory that is left out."""
    card = load_fp32_card(folder, ClassifierCard)
    if seen := sorted(set(left_out) & set(card.training.datasets or ())):
        raise SettingsInvalid(f"{folder / card.file} was trained on {', '.join(seen)}")


def _check_left_out(args: argparse.Namespace) -> None:
    """Raise LabelledDataInvalid if ``--data`` hold no cell of a known class of what is left out."""
    field_labels = read_cell_labels(args.labels) if args.labels else {}
    images = [image for folder in args.data for image in read_single_cell_images(folder)[0]]
    folders = [fields for folder in args.data for fields in find_field_folders(folder)]
    fields = [field for folder in folders for field in read_fields(folder, field_labels) if field.labels]
    labeled = {image.dataset for image in images} | {field.dataset for field in fields}
    if missing := sorted(set(args.leave_out) - labeled):
        raise LabelledDataInvalid(f"--data hold no labeled cell of {', '.join(missing)}, so nothing could be measured")


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
        start = [] if _is_trained_afresh(args.train_first) else [args.first_reader]
        train(replace(options, init_from=start), args.train_first, TrainStage.CLASSIFIER)


def evaluate_readers(folder: Path, args: argparse.Namespace, left_out: Collection[str] = ()) -> list[EvaluatedCell]:
    """Return the cells of ``--data`` with the readers' answers, before the rule for unfamiliar slides.

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
        names = {path.name for fields in find_field_folders(folder_of_data) for path in (fields / "images").iterdir()}
        labels_there = {image: kind for image, kind in field_labels.items() if image in names}
        found = read_evaluation_data(folder_of_data, models, None, labels_there)
        items: list[HasGroup] = [*found.images, *found.unknown_images, *found.fields]
        if left_out and {item.dataset for item in items}.isdisjoint(left_out):
            continue
        result = evaluate(folder_of_data, models, [], None, sr_cells=0, ood_images=0, field_labels=labels_there)
        cells += result.cells
    return cells


if __name__ == "__main__":
    main()

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
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.operating_points import choose_min_confidence, measure_rule
from experiments.options import add_training_options, make_parser
from experiments.readers import add_reader_options, evaluate_readers, is_trained_afresh, train_readers
from wbctool.datasets.class_folders import read_single_cell_images
from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields
from wbctool.enums import Readers
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.model_card import ClassifierCard, load_fp32_card
from wbctool.labels import CellClass
from wbctool.store.atomic_write import write_atomic

RESULT = "left-out-laboratories.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, train, evaluate, and write and print the table."""
    parser = make_parser(__doc__)
    add_training_options(parser)
    add_reader_options(parser)
    parser.add_argument("--leave-out", action="append", required=True, metavar="DATASET", help="may be repeated")
    args = parser.parse_args(argv)
    if args.readers is not Readers.COMPACT and not is_trained_afresh(args.train_first):
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


if __name__ == "__main__":
    main()

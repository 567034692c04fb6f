"""`python -m experiments.left_out_kind`: what becomes of cells of kinds that no class fits and no model has seen.

The second reader is trained once without each kind of ``--leave-out-kind``, or once without all of them
(``--together``), on all laboratories. The first reader is that of ``--first-reader``, which learns no such kinds. Both
then classify all cells of the kind in ``--data``, as on a familiar slide and by the rule for unfamiliar slides.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from wbctool_training.recipe_files import load_recipe

from experiments.operating_points import is_sure
from experiments.options import add_training_options, make_parser
from experiments.readers import add_reader_options, evaluate_readers, train_readers
from wbctool.datasets.class_folders import read_single_cell_images
from wbctool.datasets.fields import find_field_folders, read_cell_labels, read_fields
from wbctool.enums import Device, Precision
from wbctool.errors import LabelledDataInvalid, SettingsInvalid
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.inference.loading import load_models
from wbctool.labels import UnknownKind
from wbctool.store.atomic_write import write_atomic

RESULT = "left-out-kinds.md"


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, train, evaluate, and write and print the table."""
    parser = make_parser(__doc__)
    add_training_options(parser)
    add_reader_options(parser)
    kinds = [kind.value for kind in UnknownKind]
    parser.add_argument("--leave-out-kind", action="append", required=True, choices=kinds, help="may be repeated")
    args = parser.parse_args(argv)
    if Path(args.recipe).suffix:
        parser.error(f"--recipe {args.recipe}: kinds can be left out of a recipe of wbctool, by its name")
    _check_kinds(args)
    rule = load_models(args.first_reader, Device.AUTO, Precision.FP32, args.readers).cards.familiarity_rule
    if rule is None:
        raise SettingsInvalid(f"the readers of {args.first_reader} have no rule for unfamiliar slides")
    cells: dict[str, list[EvaluatedCell]] = {}
    for left_out in [args.leave_out_kind] if args.together else [[kind] for kind in args.leave_out_kind]:
        folder = args.out / "-".join(left_out)
        recipe = _write_recipe(folder, args.recipe, left_out)
        train_readers(folder, args, str(recipe))
        evaluated = evaluate_readers(folder, args)
        cells |= {kind: [cell for cell in evaluated if cell.kind == kind] for kind in left_out}
    table = format_table(cells, rule.min_confidence)
    write_atomic(args.out / RESULT, table.encode())
    print(table)


def format_table(kinds: Mapping[str, Sequence[EvaluatedCell]], min_confidence: float) -> str:
    """Return a Markdown table with a row for each kind, and one for all.

    Args:
        kinds: The cells of each kind.
        min_confidence: What the rule for unfamiliar slides demands.
    """
    lines = [
        "| kind left out | cells | counted on a familiar slide | in review | "
        "counted on an unfamiliar slide | in review |",
        "|---|---|---|---|---|---|",
    ]
    for name, cells in {**kinds, "all": [cell for members in kinds.values() for cell in members]}.items():
        shares = []
        for confidence in (0.0, min_confidence):
            sure = [is_sure(cell, confidence) for cell in cells]
            shares.append(fmean(cell.is_counted and is_so for cell, is_so in zip(cells, sure, strict=True)))
            shares.append(fmean(cell.is_found and not is_so for cell, is_so in zip(cells, sure, strict=True)))
        lines.append(f"| {name} | {len(cells)} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    return "\n".join([*lines, ""])


def _check_kinds(args: argparse.Namespace) -> None:
    """Raise LabelledDataInvalid if ``--data`` hold no cell of a kind that is left out."""
    field_labels = read_cell_labels(args.labels) if args.labels else {}
    kinds = {image.kind for folder in args.data for image in read_single_cell_images(folder)[1]}
    for fields in (fields for folder in args.data for fields in find_field_folders(folder)):
        kinds |= {kind for field in read_fields(fields, field_labels) for kind in field.unknown_kinds}
    if missing := [kind for kind in args.leave_out_kind if kind not in kinds]:
        raise LabelledDataInvalid(f"--data hold no {', '.join(missing)}, so nothing could be measured")


def _write_recipe(folder: Path, name: str, left_out: Sequence[str]) -> Path:
    """Write the recipe of that name without some unknown kinds."""
    compact = load_recipe(name).compact
    assert compact is not None
    kinds = [f'"{kind}"' for kind in compact.unknown_kinds if kind not in left_out]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(f'extends = "{name}"\n\n[compact]\nunknown_kinds = [{", ".join(kinds)}]\n', encoding="utf-8")
    return path


if __name__ == "__main__":
    main()

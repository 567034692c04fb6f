"""Command-line options that the experiments in training share."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from wbctool_training.recipe_files import load_recipe

from wbctool.datasets.labelled import FOLDS, GroupSplit


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options of a training, which are those of `wbctool train`.

    Args:
        description: Shown by ``--help``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="labeled data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the models and results")
    parser.add_argument("--recipe", default="default", metavar="NAME|FILE", help="a recipe of `wbctool train`")
    parser.add_argument("--imagenet-weights", type=Path, metavar="FILE", help="default: download them")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoints")
    parser.add_argument("--max-hours", type=float, metavar="HOURS", help="time limit of each training loop")
    parser.add_argument("--fold", type=int, default=0, choices=range(FOLDS), help="which fifth is the test split")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that load data; default: one per core")
    parser.add_argument("--hold-out-dataset", action="append", default=[], metavar="DATASET", help="also test on this")
    return parser


def context_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Convert parsed options to keyword arguments of wbctool_training.train.make_context, and turn on logging."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    return {
        "data": args.data,
        "out": args.out,
        "recipe": load_recipe(args.recipe),
        "imagenet_weights": args.imagenet_weights,
        "resume": args.resume,
        "max_hours": args.max_hours,
        "workers": args.workers,
        "group_split": GroupSplit(args.fold, tuple(args.hold_out_dataset)),
    }

"""Command-line options that the experiments in training share."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from wbctool_training.options import TrainingOptions

from wbctool.datasets.labelled import FOLDS, GroupSplit


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the options that say where the data are, and turn on logging.

    Args:
        description: Shown by ``--help``.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="DIR", help="labeled data")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the models and results")
    return parser


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the recipe and of the weights that a network starts from."""
    parser.add_argument("--recipe", default="default", metavar="NAME|FILE", help="a recipe of `wbctool train`")
    parser.add_argument("--imagenet-weights", type=Path, metavar="FILE", help="default: download them")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add the other options of a training, for :func:`to_training_options`."""
    add_start_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoints")
    parser.add_argument("--max-hours", type=float, metavar="HOURS", help="time limit of each training loop")
    parser.add_argument("--fold", type=int, default=0, choices=range(FOLDS), help="which fifth is the test split")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that load data; default: one per core")
    parser.add_argument("--hold-out-dataset", action="append", default=[], metavar="DATASET", help="also test on this")


def to_start_options(args: argparse.Namespace) -> TrainingOptions:
    """Convert the options of :func:`make_parser` and :func:`add_start_options`, but for the recipe."""
    return TrainingOptions(data=args.data, out=args.out, imagenet_weights=args.imagenet_weights)


def to_training_options(args: argparse.Namespace) -> TrainingOptions:
    """Convert the options of a training, but for the recipe."""
    return replace(
        to_start_options(args),
        resume=args.resume,
        max_hours=args.max_hours,
        workers=args.workers,
        group_split=GroupSplit(args.fold, tuple(args.hold_out_dataset)),
    )

"""`wbctool train`: labeled data in, models out."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.enums import BackboneChoice, TrainStage

LabeledData = Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Labeled data. May be repeated.")]
Fold = Annotated[int, typer.Option(metavar="N", min=0, max=4, help="Which fifth of the groups is the test split.")]
HoldOutDataset = Annotated[
    list[str] | None,
    typer.Option(metavar="DATASET", help="Put this whole dataset or microscope into the test split. May be repeated."),
]


def train(
    data: LabeledData = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the models go.")] = Path("exported"),
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="default, paper, fine-tune, last-block, or a TOML file, x.toml.")
    ] = "default",
    stage: Annotated[TrainStage, typer.Option(help="What to train.")] = TrainStage.ALL,
    backbone: Annotated[
        BackboneChoice, typer.Option(help="The classifier's convolutional network.")
    ] = BackboneChoice.VGG19,
    imagenet_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of ImageNet weights. Default: download them.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Classes of cells in fields without a labels.csv: columns image, label."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoints.")] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="Stop each training loop after HOURS and export what there is."),
    ] = None,
    fold: Fold = 0,
    hold_out_dataset: HoldOutDataset = None,
    init_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Start from the generator and classifier in DIR, e.g. to add cells of your own. "
            "If repeated, from the mean of the classifiers' weights.",
        ),
    ] = None,
) -> None:
    """Train the models and export them to ONNX. Requires: pip install 'wbctool[train]'."""
    with handle_errors():
        training = import_training("`wbctool train`")
        from wbctool.datasets.labelled import GroupSplit

        options = training.TrainingOptions(
            data=data or [],
            out=out,
            imagenet_weights=imagenet_weights,
            resume=resume,
            max_hours=max_hours,
            backbone=training.Backbone(backbone.value),
            init_from=init_from or [],
            group_split=GroupSplit(fold, tuple(hold_out_dataset or ())),
            labels=labels,
        )
        training.train(options, recipe, stage)


def import_training(command: str, module: str = "wbctool_training.train") -> ModuleType:
    """Import a module of the training, and let the training log its progress on standard error.

    Args:
        command: The command that needs it, for the message.
        module: The module's name.

    Returns:
        The module.

    Raises:
        MissingDependency: A library of the extra `train` is not installed.
    """
    from wbctool.optional import require_extra

    with require_extra("train", command):
        training = importlib.import_module(module)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("wbctool_training").setLevel(logging.INFO)
    return training

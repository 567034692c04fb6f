"""`wbctool train`: its options."""

from __future__ import annotations

import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import handle_errors


class TrainStage(StrEnum):
    """What `train` trains."""

    ALL = "all"
    DETECTOR = "detector"
    SRGAN = "srgan"
    CLASSIFIER = "classifier"


class BackboneChoice(StrEnum):
    """What carries the classifier's head; wbctool_training.models.backbones.Backbone, which only torch's owners can import."""

    VGG19 = "vgg19"
    VGG16 = "vgg16"
    RESNET50 = "resnet50"
    EFFICIENTNET_B7 = "efficientnet_b7"


def train(
    data: Annotated[list[Path] | None, typer.Option(metavar="DIR", help="Labelled data. May be repeated.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the models go.")] = Path("exported"),
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="default, paper, fine-tune, calibrate, or a TOML file, x.toml.")
    ] = "default",
    stage: Annotated[TrainStage, typer.Option(help="What to train.")] = TrainStage.ALL,
    backbone: Annotated[
        BackboneChoice, typer.Option(help="The classifier's convolutional network.")
    ] = BackboneChoice.VGG19,
    imagenet_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of ImageNet weights. Default: download them.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoints.")] = False,
    max_hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="Stop each training loop after HOURS and export what there is."),
    ] = None,
    fold: Annotated[int, typer.Option(min=0, max=4, help="Which fifth of the sources to hold back.")] = 0,
    hold_out_dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Hold back this whole data set or microscope. May be repeated."),
    ] = None,
    init_from: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Start from the generator and classifier in DIR, e.g. to add cells of your own. "
            "If repeated, from the mean of the classifiers' weights.",
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Train and test every backbone, and print it beside the paper's Table 6.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Train the generator with each loss, for `wbctool evaluate` to compare.")
    ] = False,
) -> None:
    """Train the models and export them to ONNX. Requires: pip install 'wbctool[train]'."""
    with handle_errors():
        from wbctool.optional import require_extra

        with require_extra("train", "`wbctool train`"):
            from wbctool_training.train import train as train_models

            from wbctool.datasets.labelled import GroupSplit
        logging.basicConfig(format="%(message)s")
        logging.getLogger("training").setLevel(logging.INFO)
        train_models(
            data=data or [],
            out=out,
            recipe=recipe,
            stage=stage.value,
            imagenet_weights=imagenet_weights,
            resume=resume,
            max_hours=max_hours,
            backbone=backbone.value,
            compare=compare,
            ablate=ablate,
            init_from=init_from or [],
            group_split=GroupSplit(fold, tuple(hold_out_dataset or ())),
        )

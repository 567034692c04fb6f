"""`wbctool calibrate`: a classifier's temperature and thresholds anew, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.train import Fold, HoldOutDataset, LabeledData, import_training


def calibrate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the models go.")],
    data: LabeledData = None,
    models: Annotated[
        list[Path] | None,
        typer.Option(
            "--models",
            "--init-from",
            metavar="DIR",
            help="Folder of the models to calibrate. Default: the shipped models. "
            "If repeated, the mean of the classifiers' weights is calibrated.",
        ),
    ] = None,
    fold: Fold = 0,
    hold_out_dataset: HoldOutDataset = None,
) -> None:
    """Fit a classifier's temperature and thresholds to the validation cells of labeled data, without training.

    Requires: pip install 'wbctool[train]'.
    """
    with handle_errors():
        training = import_training("`wbctool calibrate`", "wbctool_training.calibrate")
        from wbctool.datasets.labelled import GroupSplit
        from wbctool.inference.model_card import default_models_dir

        training.calibrate(
            data=data or [],
            out=out,
            init_from=models or [default_models_dir()],
            group_split=GroupSplit(fold, tuple(hold_out_dataset or ())),
        )

"""`wbctool models`: its commands and their options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import handle_errors
from wbctool.enums import Precision

models_app = typer.Typer(help="List, check and optimise the trained models.", no_args_is_help=True)


class CopyPrecision(StrEnum):
    """What copies can be made in; the models themselves compute in fp32."""

    INT8 = Precision.INT8.value
    FP16 = Precision.FP16.value


ModelsDir = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of models. Default: the shipped models.")
]


@models_app.command("list")
def list_models(models_dir: ModelsDir = None) -> None:
    """List the models, and the classes they know."""
    with handle_errors():
        from wbctool.cli.running import list_models_command

        raise typer.Exit(list_models_command(models_dir))


@models_app.command("verify")
def check_hashes(models_dir: ModelsDir = None) -> None:
    """Check each model against the hash in its card."""
    with handle_errors():
        from wbctool.cli.running import verify_models_command

        raise typer.Exit(verify_models_command(models_dir))


@models_app.command("optimize")
def optimize_models(
    models_dir: ModelsDir = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Class folders to calibrate and measure on. Default: the shipped cells."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the copies and the models go. Default: beside the models.")
    ] = None,
    precision: Annotated[CopyPrecision, typer.Option(help="int8 for a CPU, fp16 for a GPU.")] = CopyPrecision.INT8,
) -> None:
    """Make int8 or fp16 copies of the classifier and the generator, which runs on a CPU or a GPU then use.

    Exit codes: 0 made, or not made because no faster here; 1 not made because a copy would change too much.
    Requires: pip install 'wbctool[optimize]'.
    """
    with handle_errors():
        from wbctool.cli.optimising import optimize_models_command

        raise typer.Exit(optimize_models_command(models_dir, data, out, Precision(precision)))


@models_app.command("stain-reference")
def measure_stain_reference(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="The fields that the detector was trained on.")],
    models_dir: ModelsDir = None,
) -> None:
    """Measure the colours of the training fields and record them in the detector's card."""
    with handle_errors():
        from wbctool.cli.quality import stain_reference_command

        raise typer.Exit(stain_reference_command(data, models_dir))

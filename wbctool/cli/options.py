"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.enums import SuperResolve

Results = Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")]
ModelsDir = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of models. Default: the shipped models.")
]
SuperResolveMode = Annotated[SuperResolve, typer.Option(help="Which cells the generator enlarges.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

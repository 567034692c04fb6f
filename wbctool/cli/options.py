"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.enums import SuperResolve


def parse_file(text: str) -> Path:
    """Return the path of a file to be written.

    Raises:
        BadParameter: The text ends as a folder's name does.
    """
    if text.endswith("/"):
        raise typer.BadParameter(f"{text!r} ends in / as a folder's name does; name a file.")
    return Path(text)


Results = Annotated[
    Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, the folder beside it, or its run.json.")
]
ModelsDir = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of models. Default: the shipped models.")
]
SuperResolveMode = Annotated[SuperResolve, typer.Option(help="Which cells the generator enlarges.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

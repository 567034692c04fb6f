"""Arguments and options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.enums import Readers, SuperResolve
from wbctool.errors import SettingsInvalid

if TYPE_CHECKING:
    from wbctool.paths import OutputPaths


def parse_file(text: str) -> Path:
    """Return the path of a file to be written.

    Raises:
        BadParameter: The text ends as a folder's name does.
    """
    if text.endswith("/"):
        raise typer.BadParameter(f"{text!r} ends in / as a folder's name does; name a file.")
    return Path(text)


def check_outside_results(output: OutputPaths, target: Path) -> None:
    """Refuse to write inside the results, over what is read.

    Raises:
        SettingsInvalid: The target is the table of all slides, or lies in the folder of the results.
    """
    # Path.resolve raises RuntimeError for a loop of links.
    resolved, counts, results = (Path(os.path.realpath(p)) for p in (target, output.counts_csv, output.folder))
    if resolved == counts or resolved.is_relative_to(results):
        raise SettingsInvalid(f"--to {target} lies inside the results that are read; choose another place")


Results = Annotated[
    Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, the folder beside it, or its run.json.")
]
ModelsDir = Annotated[
    Path | None, typer.Option("--models", metavar="DIR", help="Folder of models. Default: the shipped models.")
]
ReadersChoice = Annotated[Readers, typer.Option(help="Which networks classify the cells.")]
SuperResolveMode = Annotated[SuperResolve, typer.Option(help="Which cells the generator enlarges.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

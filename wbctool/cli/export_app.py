"""`wbctool export`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import handle_errors

export_app = typer.Typer(help="Export published results for other programs.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")]
_EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 results missing or altered, or nothing could be written; 3 done, but some slide failed"
)


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results, or an image's name is too long.")
def geojson(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to. Default: OUT-geojson beside the CSV.")
    ] = None,
) -> None:
    """Write the cells of every field as GeoJSON for QuPath: one file per image, DIR/<slide>/<image>.geojson."""
    with handle_errors():
        from wbctool.cli.exporting import export_geojson

        raise typer.Exit(export_geojson(out, to))


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results.")
def coco(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: OUT-coco.json beside the CSV.")
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="SLIDES", help="Where the images are now. Default: where the run found them.")
    ] = None,
) -> None:
    """Write all cells as one COCO data set for annotation tools. Image sizes are read from the files' headers."""
    with handle_errors():
        from wbctool.cli.exporting import export_coco

        raise typer.Exit(export_coco(out, to, slides))


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results.")
def fhir(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write. Default: OUT-fhir.json beside the CSV.")
    ] = None,
) -> None:
    """Write the differentials as a FHIR R4 Bundle. Requires: pip install 'wbctool[fhir]'."""
    with handle_errors():
        from wbctool.cli.exporting import export_fhir

        raise typer.Exit(export_fhir(out, to))


@export_app.command()
def schema(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")] = Path(),
) -> None:
    """Write the Table Schemas of counts.csv, differential.csv and cells.csv (specs.frictionlessdata.io)."""
    with handle_errors():
        from wbctool.cli.exporting import export_schemas

        export_schemas(to)

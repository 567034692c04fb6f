"""`wbctool export`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import errors_as_exit_codes

export_app = typer.Typer(help="Published results in the formats of other programs.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")]
_CODES = (
    "Exit codes: 0 done; 1 results missing or altered, or nothing could be written; 3 done, but some slide is failed"
)


@export_app.command(epilog=f"{_CODES} and has no results, or an image's name is too long.")
def geojson(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write; OUT-geojson beside the CSV if none.")
    ] = None,
) -> None:
    """Write the cells of every field as GeoJSON for QuPath: one file an image, DIR/<slide>/<image>.geojson."""
    with errors_as_exit_codes():
        from wbctool.cli.exporting import export_geojson

        raise typer.Exit(export_geojson(out, to))


@export_app.command(epilog=f"{_CODES} and has no results.")
def coco(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; OUT-coco.json beside the CSV if none.")
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="SLIDES", help="Where the images are now; where the run found them if none.")
    ] = None,
) -> None:
    """Write all cells as one COCO data set for annotation tools. Reads the images' headers for their sizes."""
    with errors_as_exit_codes():
        from wbctool.cli.exporting import export_coco

        raise typer.Exit(export_coco(out, to, slides))


@export_app.command(epilog=f"{_CODES} and has no results.")
def fhir(
    out: Out,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; OUT-fhir.json beside the CSV if none.")
    ] = None,
) -> None:
    """Write the differentials as a FHIR R4 Bundle. Needs the extra: pip install 'wbctool[fhir]'."""
    with errors_as_exit_codes():
        from wbctool.cli.exporting import export_fhir

        raise typer.Exit(export_fhir(out, to))


@export_app.command()
def schema(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")] = Path(),
) -> None:
    """Write the Table Schemas of counts.csv, differential.csv and cells.csv (specs.frictionlessdata.io)."""
    with errors_as_exit_codes():
        from wbctool.cli.exporting import export_schemas

        export_schemas(to)

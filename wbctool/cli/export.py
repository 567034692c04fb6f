"""`wbctool export`: published results for other programs."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import Results, check_outside_results, parse_file
from wbctool.cli.output import echo_error, echo_optional
from wbctool.errors import OutputNotWritable
from wbctool.exit_codes import ExitCode
from wbctool.notices import list_names
from wbctool.text import display_name, pluralize

if TYPE_CHECKING:
    from wbctool.paths import OutputPaths
    from wbctool.types.results import PublishedSlide

_EXIT_CODES_HELP = (
    "Exit codes: 0 done; 1 results missing or altered, or nothing could be written; 3 done, but some slide failed"
)

export_app = typer.Typer(help="Export published results for other programs.", no_args_is_help=True)


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results, or an image's name is too long.")
def geojson(
    out: Results,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write to. Default: OUT-geojson beside the CSV.")
    ] = None,
) -> None:
    """Write the cells of every field as GeoJSON for QuPath: one file per image, DIR/<slide>/<image>.geojson."""
    with handle_errors():
        raise typer.Exit(_export_geojson(out, to))


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results.")
def coco(
    out: Results,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_file, help="File to write. Default: OUT-coco.json beside the CSV."),
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="SLIDES", help="Where the images are now. Default: where the run found them.")
    ] = None,
) -> None:
    """Write all cells as one COCO dataset for annotation tools. Image sizes are read from the files' headers."""
    with handle_errors():
        raise typer.Exit(_export_coco(out, to, slides))


@export_app.command(epilog=f"{_EXIT_CODES_HELP} and has no results.")
def fhir(
    out: Results,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_file, help="File to write. Default: OUT-fhir.json beside the CSV."),
    ] = None,
) -> None:
    """Write the differentials as a FHIR R4 Bundle. Requires: pip install 'wbctool[fhir]'."""
    with handle_errors():
        raise typer.Exit(_export_fhir(out, to))


@export_app.command()
def schema(
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to.")] = Path(),
) -> None:
    """Write the Table Schemas of counts.csv, differential.csv and cells.csv (specs.frictionlessdata.io)."""
    with handle_errors():
        from wbctool.report.table_schema import SCHEMA_BEGINNING, table_schema_files
        from wbctool.store.atomic_write import write_through_link
        from wbctool.store.ownership import FileKind, begins_with, check_overwrite

        kind = FileKind("a schema as `wbctool export schema` writes it", begins_with(SCHEMA_BEGINNING.encode()))
        schemas = {to / name: content for name, content in table_schema_files().items()}
        for path in schemas:
            check_overwrite(path, kind, "--to")
        for path, content in schemas.items():
            write_through_link(path, content)
            echo_optional(f"{display_name(str(path))} written")


def _export_geojson(out: Path, to: Path | None) -> int:
    """Write a file for each field that was analyzed, and return the exit code.

    A field whose name leaves no room for the ending is reported and left out.
    """
    from wbctool.export.geojson import GEOJSON_FILE, slide_geojson
    from wbctool.paths import OutputPaths, safe_join
    from wbctool.store.atomic_write import write_through_link
    from wbctool.store.ownership import check_overwrite, is_own
    from wbctool.store.reader import read_published_slides
    from wbctool.types.results import PublishedSlide

    output = OutputPaths.from_path(out)
    folder = _resolve_target(output, to, "geojson")
    option = "--to" if to else ""
    published = (slide for slide in read_published_slides(output) if isinstance(slide, PublishedSlide))
    for slide in published:  # all of them before the first is written
        for name in slide.image_names:
            check_overwrite(safe_join(folder, slide.result.slide, f"{name}.geojson"), GEOJSON_FILE, option)
    slides = _ExportableSlides(output)
    written: set[Path] = set()
    for slide in slides:
        for field, text in slide_geojson(slide):
            path = safe_join(folder, slide.result.slide, f"{field}.geojson")
            try:
                write_through_link(path, text.encode())
                written.add(path)
            except OutputNotWritable as error:
                if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
                    raise
                slides.skip(f"{slide.result.slide}/{field}", "its name is too long to end in .geojson")
    earlier = sorted(path for path in folder.rglob("*.geojson") if path not in written and is_own(path, GEOJSON_FILE))
    if earlier:
        names = list_names([display_name(str(path.relative_to(folder))) for path in earlier])
        echo_error(f"not written now, because these results hold no such image: {names}; remove what you do not need")
    return slides.finish(f"{display_name(str(folder))} written: {pluralize(len(written), 'file')}, one per image")


def _export_coco(out: Path, to: Path | None, slides_dir: Path | None) -> int:
    """Write one file with all cells, and return the exit code."""
    from wbctool.export.coco import COCO_FILE, coco_json
    from wbctool.export.image_sizes import read_field_sizes
    from wbctool.paths import OutputPaths
    from wbctool.pipeline.run_slides import find_run_slides
    from wbctool.store.atomic_write import write_through_link
    from wbctool.store.ownership import check_overwrite

    output = OutputPaths.from_path(out)
    path = _resolve_target(output, to, "coco.json")
    check_overwrite(path, COCO_FILE, "--to" if to else "")
    slides = _ExportableSlides(output)
    published = []
    for slide in slides:
        if slide.result.scan is None:
            published.append(slide)
        else:
            reason = "annotation tools open no scans; `export geojson` writes its cells"
            slides.skip(slide.result.slide, reason, affects_exit_code=False)
    sizes_px, root_slide_id = {}, None
    if published:
        run_slides, folder = find_run_slides(output, slides_dir)
        sizes_px = read_field_sizes(published, run_slides, folder)
        root = folder if folder.is_dir() else folder.parent  # of a run of a single image
        root_slide_id = next(
            (slide.id for slide in run_slides if not slide.is_scan and slide.folder.samefile(root)), None
        )
    write_through_link(path, coco_json(published, sizes_px, root_slide_id).encode())
    return slides.finish(f"{display_name(str(path))} written: {pluralize(len(sizes_px), 'image')}")


def _export_fhir(out: Path, to: Path | None) -> int:
    """Write one Bundle with all differentials, and return the exit code."""
    from wbctool.export.fhir import FHIR_FILE, fhir_bundle
    from wbctool.paths import OutputPaths
    from wbctool.store.atomic_write import write_through_link
    from wbctool.store.ownership import check_overwrite

    output = OutputPaths.from_path(out)
    path = _resolve_target(output, to, "fhir.json")
    check_overwrite(path, FHIR_FILE, "--to" if to else "")
    slides = _ExportableSlides(output)
    write_through_link(path, fhir_bundle(slides).encode())
    return slides.finish(
        f"{display_name(str(path))} written: {pluralize(slides.n_exported, 'report')}, {slides.n_final} final"
    )


def _resolve_target(output: OutputPaths, to: Path | None, kind: str) -> Path:
    """Return where to write; refuse a place inside the results, which would overwrite what is read."""
    target = to or output.export_path(kind)
    check_outside_results(output, target)
    return target


class _ExportableSlides:
    """The slides to export, one after the other; those without results are reported and left out."""

    def __init__(self, output: OutputPaths) -> None:
        self._output = output
        self.n_exported = self.n_final = self._n_missing = 0

    def __iter__(self) -> Iterator[PublishedSlide]:
        from wbctool.store.reader import SkippedSlide, read_published_slides
        from wbctool.types.results import SlideStatus

        for slide in read_published_slides(self._output):
            if isinstance(slide, SkippedSlide):
                self.skip(slide.slide, slide.reason, affects_exit_code=slide.status is not SlideStatus.WAITING)
            else:
                self.n_exported += 1
                self.n_final += slide.is_final
                yield slide

    def skip(self, name: str, reason: str, affects_exit_code: bool = True) -> None:
        """Report a slide or a field that is not written."""
        echo_error(f"{name} is left out: {reason}")
        self._n_missing += affects_exit_code

    def finish(self, message: str) -> int:
        """Print what was written, and return the exit code."""
        echo_optional(message)
        return ExitCode.NEEDS_ATTENTION if self._n_missing else ExitCode.DONE

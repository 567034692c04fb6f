"""What `wbctool export` does, once its options are read."""

from __future__ import annotations

import errno
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from wbctool.cli.saying import echo_optional
from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.export.coco import coco_json
from wbctool.export.fhir import fhir_bundle
from wbctool.export.geojson import field_geojson
from wbctool.export.image_sizes import find_run_slides, read_field_sizes
from wbctool.paths import OutputPaths, safe_join
from wbctool.pipeline.run import ExitCode
from wbctool.store.atomic_write import write_atomic
from wbctool.store.reader import SkippedSlide, read_published_slides
from wbctool.text import display_name, pluralize
from wbctool.types.cells import Cell
from wbctool.types.results import PublishedSlide, SlideStatus

SCHEMAS = ("counts", "differential", "cells")


def export_geojson(out: Path, to: Path | None) -> int:
    """`wbctool export geojson`; returns the exit code. A field that failed has no file, one without a cell has.

    A field whose name leaves no room for the ending is named and left out.
    """
    layout = OutputPaths.from_path(out)
    folder = _resolve_target(layout, to, "geojson")
    slides = _ExportableSlides(layout)
    files = 0
    for slide in slides:
        cells: dict[str, list[Cell]] = defaultdict(list)
        for cell in slide.result.cells:
            cells[cell.field].append(cell)
        for field in slide.analyzed_fields:
            text = field_geojson(slide.result.slide, field, cells[field], slide.classes)
            try:
                write_atomic(safe_join(folder, slide.result.slide, f"{field}.geojson"), text.encode())
                files += 1
            except OutputNotWritable as error:
                if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
                    raise
                slides.skip(f"{slide.result.slide}/{field}", "its name is too long to end in .geojson")
    return slides.finish(f"{display_name(str(folder))} written: {pluralize(files, 'file')}, one per image")


def export_coco(out: Path, to: Path | None, slides_dir: Path | None) -> int:
    """`wbctool export coco`; returns the exit code."""
    layout = OutputPaths.from_path(out)
    path = _resolve_target(layout, to, "coco.json")
    slides = _ExportableSlides(layout)
    published = list(slides)
    sizes_px, root_slide_id = {}, None
    if published:
        run_slides, folder = find_run_slides(layout, slides_dir)
        sizes_px = read_field_sizes(published, run_slides, folder)
        root_slide_id = next((slide.id for slide in run_slides if slide.folder.samefile(folder)), None)
    write_atomic(path, coco_json(published, sizes_px, root_slide_id).encode())
    return slides.finish(f"{display_name(str(path))} written: {pluralize(len(sizes_px), 'image')}")


def export_fhir(out: Path, to: Path | None) -> int:
    """`wbctool export fhir`; returns the exit code."""
    layout = OutputPaths.from_path(out)
    path = _resolve_target(layout, to, "fhir.json")
    slides = _ExportableSlides(layout)
    write_atomic(path, fhir_bundle(slides).encode())
    return slides.finish(
        f"{display_name(str(path))} written: {pluralize(slides.n_exported, 'report')}, {slides.n_final} final"
    )


def export_schemas(folder: Path) -> None:
    """`wbctool export schema`."""
    for name in SCHEMAS:
        path = folder / f"{name}.schema.json"
        write_atomic(path, (resources.files("wbctool.report") / "schemas" / f"{name}.json").read_bytes())
        echo_optional(f"{display_name(str(path))} written")


def _resolve_target(layout: OutputPaths, to: Path | None, kind: str) -> Path:
    """Where to write. Raises SettingsInvalid where that would overwrite what is read."""
    target = to or layout.export_path(kind)
    resolved = Path(os.path.realpath(target))  # of which a loop of links is no error
    if resolved == layout.counts_csv or resolved.is_relative_to(layout.folder):
        raise SettingsInvalid(f"--to {target} lies inside the results to be exported; choose another place")
    return target


class _ExportableSlides:
    """The slides to export, one after the other; those that have no results to go by are told of and left out."""

    def __init__(self, layout: OutputPaths) -> None:
        self._layout = layout
        self.n_exported = self.n_final = self._n_missing = 0

    def __iter__(self) -> Iterator[PublishedSlide]:
        for slide in read_published_slides(self._layout):
            if isinstance(slide, SkippedSlide):
                self.skip(slide.slide, slide.reason, affects_exit_code=slide.status is not SlideStatus.WAITING)
            else:
                self.n_exported += 1
                self.n_final += slide.is_final
                yield slide

    def skip(self, name: str, reason: str, affects_exit_code: bool = True) -> None:
        """Tell of a slide or a field that is not written. affects_exit_code: it costs the exit code."""
        print(f"wbctool: {display_name(name)} is left out: {display_name(reason)}", file=sys.stderr)
        self._n_missing += affects_exit_code

    def finish(self, message: str) -> int:
        """Say what was written; the exit code."""
        echo_optional(message)
        return ExitCode.SLIDES_FAILED if self._n_missing else ExitCode.DONE

"""What `wbctool export` does, once its options are read."""

from __future__ import annotations

import errno
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from wbctool.batch.publish import publish
from wbctool.batch.results import LeftOut, published_slides
from wbctool.batch.run import ExitCode
from wbctool.batch.sizes import field_sizes, slides_of_run
from wbctool.cli.saying import mention
from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.layout import OutputLayout, below, name_shown
from wbctool.records import Cell
from wbctool.report.coco import coco_json
from wbctool.report.fhir import fhir_bundle
from wbctool.report.geojson import field_geojson
from wbctool.slide_results import PublishedSlide, SlideStatus
from wbctool.wording import number_of

SCHEMAS = ("counts", "differential", "cells")


def export_geojson(out: Path, to: Path | None) -> int:
    """`wbctool export geojson`; returns the exit code. A field that failed has no file, one without a cell has.

    A field whose name leaves no room for the ending is named and left out.
    """
    layout = OutputLayout.of(out)
    folder = _target(layout, to, "geojson")
    slides = _Slides(layout)
    files = 0
    for slide in slides:
        cells: dict[str, list[Cell]] = defaultdict(list)
        for cell in slide.result.cells:
            cells[cell.field].append(cell)
        for field in slide.fields_read:
            text = field_geojson(slide.result.slide, field, cells[field], slide.classes)
            try:
                publish(below(folder, slide.result.slide, f"{field}.geojson"), text.encode())
                files += 1
            except OutputNotWritable as error:
                if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
                    raise
                slides.leave_out(f"{slide.result.slide}/{field}", "its name is too long to end in .geojson")
    return slides.ended(f"{name_shown(str(folder))} written: {number_of(files, 'file')}, one per image")


def export_coco(out: Path, to: Path | None, root: Path | None) -> int:
    """`wbctool export coco`; returns the exit code."""
    layout = OutputLayout.of(out)
    path = _target(layout, to, "coco.json")
    slides = _Slides(layout)
    found = list(slides)
    sizes_px, of_root = {}, None
    if found:
        below_root, folder = slides_of_run(layout, root)
        sizes_px = field_sizes(found, below_root, folder)
        of_root = next((slide.id for slide in below_root if slide.folder.samefile(folder)), None)
    publish(path, coco_json(found, sizes_px, of_root).encode())
    return slides.ended(f"{name_shown(str(path))} written: {number_of(len(sizes_px), 'image')}")


def export_fhir(out: Path, to: Path | None) -> int:
    """`wbctool export fhir`; returns the exit code."""
    layout = OutputLayout.of(out)
    path = _target(layout, to, "fhir.json")
    slides = _Slides(layout)
    publish(path, fhir_bundle(slides).encode())
    return slides.ended(
        f"{name_shown(str(path))} written: {number_of(slides.exported, 'report')}, {slides.final} final"
    )


def export_schemas(folder: Path) -> None:
    """`wbctool export schema`."""
    for name in SCHEMAS:
        path = folder / f"{name}.schema.json"
        publish(path, (resources.files("wbctool.report") / "schemas" / f"{name}.json").read_bytes())
        mention(f"{name_shown(str(path))} written")


def _target(layout: OutputLayout, to: Path | None, kind: str) -> Path:
    """Where to write. Raises SettingsInvalid where that would overwrite what is read."""
    target = to or layout.export(kind)
    resolved = Path(os.path.realpath(target))  # of which a loop of links is no error
    if resolved == layout.counts or resolved.is_relative_to(layout.folder):
        raise SettingsInvalid(f"--to {target} lies inside the results to be exported; choose another place")
    return target


class _Slides:
    """The slides to export, one after the other; those that have no results to go by are told of and left out."""

    def __init__(self, layout: OutputLayout) -> None:
        self._layout = layout
        self.exported = self.final = self._missing = 0

    def __iter__(self) -> Iterator[PublishedSlide]:
        for slide in published_slides(self._layout):
            if isinstance(slide, LeftOut):
                self.leave_out(slide.slide, slide.why, is_due=slide.status is not SlideStatus.WAITING)
            else:
                self.exported += 1
                self.final += slide.is_final
                yield slide

    def leave_out(self, name: str, why: str, is_due: bool = True) -> None:
        """Tell of a slide or a field that is not written. is_due: it costs the exit code."""
        print(f"wbctool: {name_shown(name)} is left out: {name_shown(why)}", file=sys.stderr)
        self._missing += is_due

    def ended(self, line: str) -> int:
        """Say what was written; the exit code."""
        mention(line)
        return ExitCode.SLIDES_FAILED if self._missing else ExitCode.DONE

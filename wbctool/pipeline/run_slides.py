"""The slides of a run that has ended and their images, found again for what published results do not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from wbctool.errors import RecordInvalid, ResultsInvalid, SlidesNotFound
from wbctool.paths import OutputPaths
from wbctool.pipeline.discovery import find_slides
from wbctool.store.run_record import read_run_record
from wbctool.types.cells import Slide


def find_run_slides(output: OutputPaths, root: Path | None) -> tuple[tuple[Slide, ...], Path]:
    """Find the slides of a run again.

    Args:
        output: Paths of the results.
        root: Folder where the slides are now; None for the folder that the run recorded.

    Returns:
        The slides and their folder.

    Raises:
        ResultsInvalid: run.json does not name the folder, or there are no slides in it.
    """
    settings = read_run_record(output).settings
    try:
        folder, follow_links = root or Path(settings["slides"]), bool(settings["follow_links"])
    except (KeyError, TypeError) as error:
        raise RecordInvalid(output.run_json, f"is not a valid record of a run: settings: {error}") from error
    try:
        return find_slides(folder, follow_links, [output.folder], lambda _: None), folder  # the run gave the notices
    except SlidesNotFound as error:
        raise ResultsInvalid(f"{error}; use --slides to name the folder that has the images now") from error


class FieldImages:
    """The image files of a run's fields, as long as they are those that it analyzed."""

    def __init__(self, paths: Mapping[tuple[str, str], Path]) -> None:
        self._paths = paths

    @classmethod
    def find(cls, output: OutputPaths, root: Path | None) -> FieldImages:
        """Find the files.

        Args:
            output: The results.
            root: The folder of the slides; None for the one that the run recorded.

        Raises:
            ResultsInvalid: There is no such folder, or no slide in it.
        """
        slides, _ = find_run_slides(output, root)
        return cls({(slide.id, path.name): path for slide in slides for path in slide.fields})

    def read(self, slide: str, field: str, sha256: str) -> bytes | None:
        """Return a field's file; None if it is gone, cannot be read, or is another image now."""
        path = self._paths.get((slide, field))
        try:
            content = path.read_bytes() if path else b""
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == sha256 else None

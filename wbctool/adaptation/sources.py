"""What a laboratory gives to `wbctool adapt`: class folders, results, and labels of results, in any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.adaptation.cells import AdaptationCell, merge_cells, read_labelled_cells
from wbctool.adaptation.labels_file import read_labels
from wbctool.adaptation.named_cells import merge_labels
from wbctool.adaptation.published_cells import PublishedCells, find_cells_elsewhere, read_published_cells
from wbctool.datasets.class_folders import describe_left_out
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.loading import Models
from wbctool.paths import OutputPaths
from wbctool.store.run_record import is_results
from wbctool.types.progress import Progress


@dataclass(frozen=True, slots=True)
class LaboratoryCells:
    """The cells of all sources.

    Attributes:
        cells: The cells, each once.
        labeled_by: Who labeled them, as far as the sources say.
        notes: What was left out.
    """

    cells: tuple[AdaptationCell, ...]
    labeled_by: tuple[str, ...]
    notes: tuple[str, ...]


def read_sources(
    sources: Sequence[Path], models: Models, slides: Path | None = None, progress: Progress = lambda items, *_: items
) -> LaboratoryCells:
    """Read labeled cells.

    Args:
        sources: Folders of class folders, results of `wbctool run`, and labels (.json) of results that are given too.
            Of several names that one reader gave a cell of one page, the latest is taken. Cells of results without a
            label are taken as the reviews left them that were applied to them.
        models: Their detector finds the cells of class folders; the first reader's card has the margin of the crops.
        slides: Where slides of the results lie now; None if all are where the runs found them.
        progress: Wraps the items of slow loops.

    Raises:
        LabelledDataInvalid: A source holds no labeled cell, or a cell has two labels.
        RecordInvalid, ResultsInvalid, ReviewRefused, SlidesNotFound: Labels, results or slides cannot be read.
    """
    label_files = [
        path for path in sources if path.suffix.lower() == ".json" and path.is_file() and not _is_results(path)
    ]
    others = [path for path in sources if path not in label_files]
    layouts = {path: OutputPaths.from_path(path) for path in others if _is_results(path)}
    named, notes = merge_labels({path: read_labels(path) for path in label_files})
    notes += find_cells_elsewhere(list(layouts.values()), named)
    cells: list[AdaptationCell] = []
    published: list[PublishedCells] = []
    margin = models.classifier.card.crop_margin
    for path in others:
        if path in layouts:
            published.append(read_published_cells(layouts[path], named, margin, progress, slides))
            notes += published[-1].notes
            continue
        found = read_labelled_cells(path, models, progress)
        notes += describe_left_out(path)
        if not found:
            raise LabelledDataInvalid(
                f"{path} holds neither class folders with images, nor labeled fields, nor results of a run"
            )
        cells += found
    cells += [cell for result in published for cell in result.cells]
    labeled_by = dict.fromkeys(reader for result in published for reader in result.labeled_by)
    return LaboratoryCells(tuple(merge_cells(cells)), tuple(labeled_by), tuple(notes))


def _is_results(path: Path) -> bool:
    """Return whether a path names results of a run."""
    if not path.exists():
        raise LabelledDataInvalid(f"{path} does not exist")
    return is_results(OutputPaths.from_path(path).folder)

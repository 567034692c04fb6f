"""What a laboratory gives to `wbctool adapt`: class folders, results, and labels of results, in any number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbctool.adaptation.cells import AdaptationCell, merge_cells, read_labelled_cells
from wbctool.adaptation.labels_file import Labels, read_labels
from wbctool.adaptation.published_cells import find_labelled_results, list_review_readers, read_published_cells
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
            Of several files of one reader and page, the one saved last is taken. Results without labels are taken with
            the reviews that were applied to them.
        models: Their detector finds the cells of class folders; the first reader's card has the margin of the crops.
        slides: Where the slides of the results lie now; None if they are where the run found them.
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
    labels: dict[Path, list[Labels]] = defaultdict(list)
    notes: list[str] = []
    contents = {path: read_labels(path) for path in label_files}
    latest = {
        (content.reader, content.page): path
        for path, content in sorted(contents.items(), key=lambda item: item[1].created)
    }
    for path, content in contents.items():
        latest_path = latest[content.reader, content.page]
        if latest_path != path:
            notes.append(f"{path} left out: {latest_path} was saved later by the same reader, from the same page")
            continue
        labels[find_labelled_results(list(layouts.values()), content, path).counts_csv].append(content)
    cells: list[AdaptationCell] = []
    labeled_by: list[str] = []
    for path in others:
        if path in layouts:
            own_labels = labels[layouts[path].counts_csv]
            margin = models.classifier.card.crop_margin
            found, left_out = read_published_cells(layouts[path], own_labels, margin, progress, slides)
            labeled_by += [label.reader for label in own_labels] or list_review_readers(layouts[path])
            notes += left_out
        else:
            found = read_labelled_cells(path, models, progress)
            notes += describe_left_out(path)
        if not found:
            raise LabelledDataInvalid(
                f"{path} holds neither class folders with images, nor labeled fields, nor results of a run"
            )
        cells += found
    return LaboratoryCells(tuple(merge_cells(cells)), tuple(dict.fromkeys(labeled_by)), tuple(notes))


def _is_results(path: Path) -> bool:
    """Return whether a path names results of a run."""
    if not path.exists():
        raise LabelledDataInvalid(f"{path} does not exist")
    return is_results(OutputPaths.from_path(path).folder)

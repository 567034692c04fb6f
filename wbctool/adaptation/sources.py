"""What a laboratory gives to `wbctool adapt`: class folders, results, and labels of results, in any number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet

from wbctool.adaptation.cells import AdaptationCell, describe_left_out_fields, merge_cells, read_labelled_cells
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
    outputs = {path: OutputPaths.from_path(path) for path in others if _is_results(path)}
    named, notes = merge_labels({path: read_labels(path) for path in label_files})
    notes += find_cells_elsewhere(list(outputs.values()), named)
    cells: list[AdaptationCell] = []
    published: list[PublishedCells] = []
    margin = models.classifier.card.crop_margin
    for path in others:
        if path in outputs:
            published.append(read_published_cells(outputs[path], named, margin, progress, slides))
            notes += published[-1].notes
            continue
        found = read_labelled_cells(path, models, progress)
        notes += [*describe_left_out(path), *describe_left_out_fields(path)]
        if not found:
            raise LabelledDataInvalid(
                f"{path} holds neither class folders with images, nor labeled fields, nor results of a run"
            )
        cells += found
    labeled_by = dict.fromkeys(reader for result in published for reader in result.labeled_by)
    return LaboratoryCells(
        tuple(merge_cells([*cells, *merge_shared_slides(published)])), tuple(labeled_by), tuple(notes)
    )


def merge_shared_slides(published: Sequence[PublishedCells]) -> list[AdaptationCell]:
    """Make slides that share a field one group, and slides of different results different ones.

    Args:
        published: The cells of each of the results, grouped by the slides' ids there.

    Returns:
        All cells. A group is named after a slide's id; if another group has the name, with the hash of a field.
    """
    disjoint_sets: DisjointSet[tuple[int, str]] = DisjointSet()
    first_slide: dict[str, tuple[int, str]] = {}
    for number, result in enumerate(published):
        for slide, hashes in result.field_hashes.items():
            disjoint_sets.add((number, slide))
            for sha256 in hashes:
                disjoint_sets.merge((number, slide), first_slide.setdefault(sha256, (number, slide)))
    subsets = disjoint_sets.subsets()
    n_by_name = Counter(min(slide for _, slide in subset) for subset in subsets)
    groups: dict[tuple[int, str], str] = {}
    for subset in subsets:
        name = min(slide for _, slide in subset)
        sha256 = min(sha256 for number, slide in subset for sha256 in published[number].field_hashes[slide])
        groups |= dict.fromkeys(subset, name if n_by_name[name] == 1 else f"{name} {sha256}")
    return [
        replace(cell, group=groups[number, cell.group])
        for number, result in enumerate(published)
        for cell in result.cells
    ]


def _is_results(path: Path) -> bool:
    """Return whether a path names results of a run."""
    if not path.exists():
        raise LabelledDataInvalid(f"{path} does not exist")
    return is_results(OutputPaths.from_path(path).folder)

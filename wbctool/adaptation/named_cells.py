"""What labels files say together: which cells were named, and by whom; and whether a cell is one of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wbctool.adaptation.labels_file import ChosenCell, LabelledCell, Labels
from wbctool.text import pluralize
from wbctool.types.cells import Box

_SAME_CELL_IOU = 0.5  # of boxes in one field; a run with other models may shift a box


@dataclass(frozen=True, slots=True)
class NamedCell:
    """A cell that a reader named on a label page.

    Attributes:
        cell: The cell with its label.
        reader: Who named it.
        path: The labels file that says so.
    """

    cell: LabelledCell
    reader: str
    path: Path


def merge_labels(contents: Mapping[Path, Labels]) -> tuple[list[NamedCell], list[str]]:
    """Merge labels files: of several names that one reader gave a cell of one page, the latest counts.

    Args:
        contents: The content of each file.

    Returns:
        The named cells, and a note for each file of which a name was replaced by a different one.
    """
    latest: dict[tuple[str, str, str, str, int], NamedCell] = {}
    replaced: dict[tuple[Path, Path], int] = defaultdict(int)
    files = sorted(contents.items(), key=lambda item: item[1].created)
    named = [(file.page, NamedCell(cell, file.reader, path)) for path, file in files for cell in file.cells]
    for page, later in sorted(named, key=lambda item: item[1].cell.time):
        key = (later.reader, page, later.cell.slide, later.cell.field, later.cell.cell)
        earlier = latest.pop(key, None)
        if earlier is not None and earlier.cell.label is not later.cell.label:
            replaced[earlier.path, later.path] += 1
        latest[key] = later
    notes = [
        f"{pluralize(count, 'label')} of {earlier} left out: the same reader gave these cells other names later, in "
        f"{later}"
        for (earlier, later), count in replaced.items()
    ]
    order = {path: number for number, path in enumerate(contents)}
    return sorted(latest.values(), key=lambda named: order[named.path]), notes


class CellIndex:
    """Cells by the content of their field, whatever run found them and wherever the field lies."""

    def __init__(self, cells: Iterable[ChosenCell] = ()) -> None:
        self._boxes: dict[str, list[Box]] = defaultdict(list)
        for cell in cells:
            self._boxes[cell.field_sha256].append(cell.box)

    def holds(self, field_sha256: str, box: Box) -> bool:
        """Return whether a box is about that of one of the cells in the same field."""
        return any(box.iou(other) >= _SAME_CELL_IOU for other in self._boxes.get(field_sha256, ()))

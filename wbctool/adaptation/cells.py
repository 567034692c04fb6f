"""The labeled cells that a laboratory teaches, read from class folders and labeled fields; each cell once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from wbctool.datasets.class_folders import read_single_cell_images
from wbctool.datasets.fields import find_field_folders, read_fields, read_labelled_field
from wbctool.datasets.labelled import LabelledImage, UnknownImage
from wbctool.datasets.single_cell import find_labelled_cell
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.metrics import match_boxes
from wbctool.imaging.crop import crop_cells, hash_crop
from wbctool.inference.loading import Models
from wbctool.labels import CellClass, UnknownKind
from wbctool.notices import list_names
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.quality import measure_colors
from wbctool.text import pluralize
from wbctool.types.cells import Crop, ObjectClass
from wbctool.types.progress import Progress
from wbctool.types.slides import FieldColors

_MAX_CONFLICTS_NAMED = 20

Label = CellClass | UnknownKind | str
"""What a reader calls a cell; an empty string if no class or known kind fits."""


@dataclass(frozen=True)
class AdaptationCell:
    """A cell with what a reader calls it.

    Attributes:
        label: Its class, or its kind if no class fits; an empty string if the reader said only that no class fits.
        group: The slide or the original that it comes from; cells of one group are never divided.
        origin: Where it is, for messages.
        crop: The cell at native resolution.
        is_named: Whether a reader named it; False if one of a report did not move it from where the tool had filed it.
        is_random: Whether it was chosen at random, so that it may stand for the laboratory's cells.
        field_colors: The colors of the field that it lies in; None if they are not known.
    """

    label: Label
    group: str
    origin: str
    crop: Crop
    is_named: bool = True
    is_random: bool = False
    field_colors: FieldColors | None = None

    @cached_property
    def sha256(self) -> str:
        """The hash of its pixels."""
        return hash_crop(self.crop)


def read_labelled_cells(
    data: Path, models: Models, progress: Progress, field_labels: Mapping[str, CellClass | str] | None = None
) -> list[AdaptationCell]:
    """Read single-cell images in class folders, and fields with boxes and labels, as `wbctool evaluate` does.

    Args:
        data: The folder that holds them.
        models: Their detector finds the cells.
        progress: Wraps the images.
        field_labels: Classes of the cells in fields without a labels.csv, by the image's file name.

    Returns:
        The cells, in order of the images' paths.

    Raises:
        LabelledDataInvalid: An image or a table cannot be read.
    """
    known, unknown = read_single_cell_images(data)
    labelled: list[tuple[LabelledImage | UnknownImage, Label]] = [(image, image.label) for image in known]
    labelled += [(image, _as_label(image.kind)) for image in unknown]
    margin = models.classifier.card.crop_margin
    cells: list[AdaptationCell] = []
    for labelled_image, label in progress(labelled, len(labelled), f"{data.name}: finding cells"):
        image = read_labelled_field(labelled_image.path)
        (crop,) = crop_cells(image, [find_labelled_cell(image, models.detector)[0].box], margin)
        colors = measure_colors(image, detect_blood_cells(image, models.detector))
        group = f"{labelled_image.dataset}/{labelled_image.group}"
        cells.append(AdaptationCell(label, group, str(labelled_image.path), crop, field_colors=colors))
    fields = [f for folder in find_field_folders(data) for f in read_fields(folder, field_labels) if f.common_kind]
    for field in progress(fields, len(fields), f"{data.name}: finding cells in fields"):
        image = read_labelled_field(field.path)
        objects = detect_blood_cells(image, models.detector)
        found = [detected.box for detected in objects if detected.object_class is ObjectClass.NUCLEATED]
        matches = dict(match_boxes(field.nucleated_boxes, found))
        boxes = [matches.get(box, box) for box in field.nucleated_boxes]
        colors, group = measure_colors(image, objects), f"{field.dataset}/{field.group}"
        for crop in crop_cells(image, boxes, margin):
            label = _as_label(field.common_kind or "")
            cells.append(AdaptationCell(label, group, str(field.path), crop, field_colors=colors))
    return cells


def describe_left_out_fields(data: Path) -> list[str]:
    """Return a note on the fields whose labels cannot be assigned to their boxes.

    Args:
        data: The folder that holds them.

    Raises:
        LabelledDataInvalid: A table cannot be read.
    """
    fields = [field for folder in find_field_folders(data) for field in read_fields(folder)]
    left_out = [field for field in fields if field.nucleated_boxes and not field.common_kind]
    if not left_out:
        return []
    n_cells = sum(len(field.nucleated_boxes) for field in left_out)
    names = list_names([str(field.path.relative_to(data)) for field in left_out])
    return [
        f"{pluralize(len(left_out), 'field')} with {pluralize(n_cells, 'cell')} left out, because the cells of a field "
        f"are of several kinds, or fewer are labeled than boxed: {names}"
    ]


def _as_label(kind: str) -> Label:
    """Return a kind of cell as a label; an empty string if no class or known kind fits."""
    if isinstance(kind, CellClass):
        return kind
    return UnknownKind(kind) if kind in set(UnknownKind) else ""


def merge_cells(cells: Sequence[AdaptationCell]) -> list[AdaptationCell]:
    """Keep one of several cells with the same pixels.

    Args:
        cells: The cells of all sources.

    Returns:
        The cells in order, each once: as it was named, if it was; chosen at random if one of them is. A cell that
        nobody named, and that the tool filed differently in two results, is left out.

    Raises:
        LabelledDataInvalid: A cell was named twice, differently; the message says where.
    """
    copies: dict[str, list[AdaptationCell]] = defaultdict(list)
    for cell in cells:
        copies[cell.sha256].append(cell)
    kept = [[cell for cell in same if cell.is_named] or same for same in copies.values()]
    conflicts = [same for same in kept if same[0].is_named and len({cell.label for cell in same}) > 1]
    if conflicts:
        named = "; ".join(
            " but ".join(f"{cell.label or 'no class'} ({cell.origin})" for cell in same)
            for same in conflicts[:_MAX_CONFLICTS_NAMED]
        )
        rest = Counter(same[0].group for same in conflicts[_MAX_CONFLICTS_NAMED:])
        where = ", ".join(f"{group} ({count})" for group, count in rest.items())
        more = f"; and {rest.total()} more, by slide: {where}" if rest else ""
        raise LabelledDataInvalid(f"{pluralize(len(conflicts), 'cell')} labeled twice, differently: {named}{more}")
    return [
        replace(same[0], is_random=any(cell.is_random for cell in same))
        for same in kept
        if len({cell.label for cell in same}) == 1
    ]


def count_labels(cells: Sequence[AdaptationCell]) -> Counter[str]:
    """Count the cells of each label."""
    return Counter(str(cell.label) for cell in cells if cell.label)

"""The colors of the fields that the detector was trained on, by data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wbctool.datasets.fields import find_field_folders, read_fields, read_labelled_field
from wbctool.datasets.labelled import GroupSplit, Split
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.color_range import ColorRange
from wbctool.inference.model_card import DetectorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.quality import measure_colors
from wbctool.types.slides import CieLab, FieldColors

_QUANTILES = (0.01, 0.99)


def measure_stain_reference(data: Sequence[Path], model: OnnxModel[DetectorCard]) -> tuple[ColorRange, ...]:
    """Measure the color ranges of the fields that the detector was trained on.

    Args:
        data: Folders of fields with boxes, or folders that hold such folders.
        model: The detector. Its card defines which groups are training groups.

    Returns:
        One range for each data set, in order of their names: the 1st and the 99th percentile of L*, a* and b* of
        background and cells.

    Raises:
        LabelledDataInvalid: There are no fields of training groups, one cannot be read, or those of a data set show no
            background or no cells.
    """
    group_split = GroupSplit.from_card(model.card.training)
    measured: dict[str, list[FieldColors]] = defaultdict(list)
    for folder in (inner for outer in data for inner in find_field_folders(outer)):
        for labelled in read_fields(folder):
            if group_split.assign(labelled) is Split.TRAIN:
                field = read_labelled_field(labelled.path)
                measured[labelled.dataset].append(measure_colors(field, detect_blood_cells(field, model)))
    if not measured:
        raise LabelledDataInvalid(f"{', '.join(map(str, data))}: no fields of training groups")
    ranges = []
    for dataset, fields in sorted(measured.items()):
        color_range = fit_color_range(dataset, fields)
        if color_range is None:
            raise LabelledDataInvalid(f"{dataset}: no field shows background, or none shows cells")
        ranges.append(color_range)
    return tuple(ranges)


def fit_color_range(dataset: str, fields: Sequence[FieldColors]) -> ColorRange | None:
    """Return the color range of the fields of one data set; None if none shows background, or none shows cells."""
    background_colors = [f.background for f in fields if f.background]
    cell_colors = [f.cells for f in fields if f.cells]
    if not background_colors or not cell_colors:
        return None
    background, cells = _color_quantiles(background_colors), _color_quantiles(cell_colors)
    return ColorRange(
        dataset=dataset,
        fields=len(fields),
        background_low=background[0],
        background_high=background[1],
        cells_low=cells[0],
        cells_high=cells[1],
    )


def _color_quantiles(colors: Sequence[CieLab]) -> tuple[CieLab, CieLab]:
    """Return the low and the high quantile of each coordinate, to one decimal."""
    low, high = np.quantile(np.array(colors), _QUANTILES, axis=0).round(1).tolist()
    return tuple(low), tuple(high)

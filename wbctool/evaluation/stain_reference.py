"""The colours of the fields that the detector was trained on, by origin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wbctool.datasets.labelled import GroupSplit, Split, find_field_folders, read_fields
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.classification import read_labelled_field
from wbctool.inference.model_card import ColorRange, DetectorCard
from wbctool.inference.session import OnnxModel
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.quality import measure_quality
from wbctool.types.slides import CieLab, FieldQuality

_QUANTILES = (0.01, 0.99)


def measure_stain_reference(data: Sequence[Path], model: OnnxModel[DetectorCard]) -> tuple[ColorRange, ...]:
    """Ranges of the training sources alone, as the detector's card splits them; origins in order of their names.

    data: folders of fields with boxes, or folders that hold such. Raises LabelledDataInvalid where there is none, or
    one cannot be read.
    """
    group_split = GroupSplit.from_card(model.card.training)
    measured: dict[str, list[FieldQuality]] = defaultdict(list)
    for folder in (inner for outer in data for inner in find_field_folders(outer)):
        for labelled in read_fields(folder):
            if group_split.assign(labelled) is Split.TRAIN:
                field = read_labelled_field(labelled.path)
                measured[labelled.dataset].append(measure_quality(field, detect_blood_cells(field, model), ()))
    if not measured:
        raise LabelledDataInvalid(f"{', '.join(map(str, data))}: no fields of training sources")
    return tuple(_color_range(origin, fields) for origin, fields in sorted(measured.items()))


def _color_range(dataset: str, fields: Sequence[FieldQuality]) -> ColorRange:
    background = _color_quantiles([f.background_color for f in fields if f.background_color])
    cells = _color_quantiles([f.cell_color for f in fields if f.cell_color])
    return ColorRange(
        dataset=dataset,
        fields=len(fields),
        background_low=background[0],
        background_high=background[1],
        cells_low=cells[0],
        cells_high=cells[1],
    )


def _color_quantiles(colors: Sequence[CieLab]) -> tuple[CieLab, CieLab]:
    low, high = np.quantile(np.array(colors), _QUANTILES, axis=0).round(1).tolist()
    return tuple(low), tuple(high)

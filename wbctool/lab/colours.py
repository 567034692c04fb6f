"""The colours of the fields that the detector was trained on, by origin."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wbctool.cards import ColourRange, DetectorCard
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.classification import read_labelled
from wbctool.lab.labelled import Split, Splitting, fields_folders, read_fields
from wbctool.onnx_model import OnnxModel
from wbctool.slide_facts import FieldQuality, Lab
from wbctool.stages.detect import detect_all_cells
from wbctool.stages.quality import measure_field

_TAILS = (0.01, 0.99)


def measure_colours(data: Sequence[Path], model: OnnxModel[DetectorCard]) -> tuple[ColourRange, ...]:
    """Ranges of the training sources alone, as the detector's card splits them; origins in order of their names.

    data: folders of fields with boxes, or folders that hold such. Raises LabelledDataInvalid where there is none, or
    one cannot be read.
    """
    splitting = Splitting.of_card(model.card.training)
    measured: dict[str, list[FieldQuality]] = defaultdict(list)
    for folder in (inner for outer in data for inner in fields_folders(outer)):
        for labelled in read_fields(folder):
            if splitting.of(labelled) is Split.TRAIN:
                field = read_labelled(labelled.path)
                measured[labelled.origin].append(measure_field(field, detect_all_cells(field, model), ()))
    if not measured:
        raise LabelledDataInvalid(f"{', '.join(map(str, data))}: no fields of training sources")
    return tuple(_range(origin, fields) for origin, fields in sorted(measured.items()))


def _range(origin: str, fields: Sequence[FieldQuality]) -> ColourRange:
    background = _limits([f.background for f in fields if f.background])
    cells = _limits([f.cells for f in fields if f.cells])
    return ColourRange(
        origin=origin,
        fields=len(fields),
        background_low=background[0],
        background_high=background[1],
        cells_low=cells[0],
        cells_high=cells[1],
    )


def _limits(colours: Sequence[Lab]) -> tuple[Lab, Lab]:
    low, high = np.quantile(np.array(colours), _TAILS, axis=0).round(1).tolist()
    return tuple(low), tuple(high)

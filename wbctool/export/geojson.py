"""Cells as GeoJSON (RFC 7946) that QuPath opens as detections with class and measurements.

One collection a field, because QuPath opens objects into one image. As QuPath from version 0.4 reads it
(qupath.lib.io.QuPathTypeAdapters, GsonTools): ``objectType`` makes the kind of object, a classification needs both its
name and its colour, ``measurements`` are numbers by name, ``metadata`` (from 0.5; older ones pass it over) are texts by
name, and an ``id`` is kept where it is a UUID. Coordinates are pixels of the field, origin top left, and not the
longitudes that RFC 7946 presumes; its section 4 leaves that to an agreement, and this is QuPath's.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from wbctool.labels import CellClass
from wbctool.report.disposition import ARTIFACT, category_of
from wbctool.text import encode_name
from wbctool.types.cells import Box, Cell, Outcome

_NAMESPACE = uuid.UUID("5ac7e0d3-2c3d-4a54-9a3c-6a9c3c1ef0b7")
_REVIEW = "review"

# Okabe and Ito's colours, which people with a colour vision deficiency tell apart; grey in place of their black.
CLASS_COLORS: dict[CellClass, tuple[int, int, int]] = {
    CellClass.NEUTROPHIL: (0, 114, 178),
    CellClass.LYMPHOCYTE: (0, 158, 115),
    CellClass.MONOCYTE: (230, 159, 0),
    CellClass.EOSINOPHIL: (213, 94, 0),
    CellClass.BASOPHIL: (204, 121, 167),
    CellClass.IMMATURE_GRANULOCYTE: (86, 180, 233),
    CellClass.ERYTHROBLAST: (240, 228, 66),
    CellClass.PLATELET: (128, 128, 128),
}
_ARTIFACT_COLOR = (96, 96, 96)


def field_geojson(slide: str, field: str, cells: Iterable[Cell], classes: Sequence[CellClass]) -> str:
    """The FeatureCollection of one field, without features where no cell was found. cells: of that field alone."""
    features = [_feature(slide, field, cell, classes) for cell in cells]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def _feature(slide: str, field: str, cell: Cell, classes: Sequence[CellClass]) -> dict[str, Any]:
    prediction = cell.prediction
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, "\0".join((encode_name(slide), encode_name(field), str(cell.index))))),
        "geometry": {"type": "Polygon", "coordinates": [_ring(cell.detection.box)]},
        "properties": {
            "objectType": "detection",
            "name": f"cell {cell.index}",
            "classification": _classification(cell),
            "measurements": {
                "confidence": prediction.confidence,
                "detection_score": cell.detection.score,
                **{f"p_{label}": p for label, p in zip(classes, prediction.probabilities, strict=True)},
            },
            "metadata": {
                "slide": encode_name(slide),
                "field": encode_name(field),
                "outcome": prediction.outcome.value,
                "reason": prediction.reason.value,
                "cut_by_border": str(cell.detection.cut_by_border).lower(),
                "super_resolved": str(cell.super_resolved).lower(),
            },
        },
    }


def _classification(cell: Cell) -> dict[str, Any]:
    """A cell in review is of a subclass of its own, so that QuPath does not count it with those that are sure.

    A reader's artefact is of no class of cells, whatever the model called it.
    """
    if category_of(cell.prediction) == ARTIFACT:
        return {"name": ARTIFACT, "color": list(_ARTIFACT_COLOR)}
    label, color = cell.prediction.label, list(CLASS_COLORS[cell.prediction.label])
    if cell.prediction.outcome is Outcome.NEEDS_REVIEW:
        return {"names": [label.value, _REVIEW], "color": color}
    return {"name": label.value, "color": color}


def _ring(box: Box) -> list[list[int]]:
    """A closed ring, counter-clockwise in its numbers (RFC 7946, section 3.1.6)."""
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]

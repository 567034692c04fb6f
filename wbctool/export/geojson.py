"""Cells as GeoJSON (RFC 7946) that QuPath opens as detections with class and measurements.

There is one collection per field, because QuPath opens objects into one image; a scan is one image, and its cells are
in pixels of level 0. The format is that of QuPath 0.4 and later (qupath.lib.io.QuPathTypeAdapters, GsonTools):
``objectType`` is the kind of object, a classification needs a name and a color, ``measurements`` are numbers by name,
``metadata`` are texts by name (from QuPath 0.5; older versions ignore them), and an ``id`` is kept if it is a UUID.
Coordinates are pixels of the field from the top left, as QuPath expects; RFC 7946, section 4, allows such agreements on
other coordinates than longitude and latitude.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wbctool.labels import CellClass
from wbctool.report.categories import ARTIFACT, category_of
from wbctool.store.ownership import FileKind
from wbctool.text import encode_name
from wbctool.types.cells import Box, Cell, Outcome
from wbctool.types.results import PublishedSlide

_NAMESPACE = uuid.UUID("5ac7e0d3-2c3d-4a54-9a3c-6a9c3c1ef0b7")
_REVIEW = "review"

# The colors of Okabe and Ito, which are safe for color-blind readers; gray replaces their black.
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


def _is_geojson(path: Path) -> bool:
    """Return whether a file is an export of ours that no other program has laid out in its own way."""
    text = path.read_text(encoding="utf-8")
    features = json.loads(text)["features"]
    is_own = all({"outcome", "super_resolved"} <= feature["properties"]["metadata"].keys() for feature in features)
    return is_own and text == _format_collection(features)


GEOJSON_FILE = FileKind("a file as `wbctool export geojson` writes it", _is_geojson)


def field_geojson(slide: str, cells: Iterable[Cell], classes: Sequence[CellClass]) -> str:
    """Return the FeatureCollection of one field, or of one scan, as JSON; it has no features if no cell was found.

    Args:
        slide: Id of the slide.
        cells: The cells of this field or scan.
        classes: The classes of the model, in the order of the probabilities.
    """
    features = [_feature(slide, cell, classes) for cell in cells]
    return _format_collection(features)


def slide_geojson(slide: PublishedSlide) -> Iterator[tuple[str, str]]:
    """Yield (image name, FeatureCollection as JSON) for every analyzed image of a slide, with or without cells.

    The images are its fields; of a scan it is its file.
    """
    scan = slide.result.scan
    cells_by_image: dict[str, list[Cell]] = defaultdict(list)
    for cell in slide.result.cells:
        cells_by_image[cell.field if scan is None else scan.file].append(cell)
    for image in slide.image_names:
        yield image, field_geojson(slide.result.slide, cells_by_image[image], slide.classes)


def _format_collection(features: Sequence[Mapping[str, Any]]) -> str:
    """Return a FeatureCollection as JSON."""
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def _feature(slide: str, cell: Cell, classes: Sequence[CellClass]) -> dict[str, Any]:
    """Return one cell as a Feature."""
    prediction = cell.prediction
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, "\0".join((encode_name(slide), encode_name(cell.field), str(cell.index))))),
        "geometry": {"type": "Polygon", "coordinates": [_ring(cell.detection.box)]},
        "properties": {
            "objectType": "detection",
            "name": f"cell {cell.index}",
            "classification": _classification(cell),
            "measurements": {
                "confidence": prediction.confidence,
                "detection_score": cell.detection.score,
                **{f"p_{label}": p for label, p in zip(classes, prediction.probabilities, strict=True)},
                **({} if cell.diameter_um is None else {"diameter_um": cell.diameter_um}),
            },
            "metadata": {
                "slide": encode_name(slide),
                "field": encode_name(cell.field),
                "outcome": prediction.outcome.value,
                "reason": prediction.reason.value,
                "cut_by_border": str(cell.detection.cut_by_border).lower(),
                "super_resolved": str(cell.super_resolved).lower(),
            },
        },
    }


def _classification(cell: Cell) -> dict[str, Any]:
    """Return the QuPath class: a subclass for cells in review, so that QuPath counts them apart from certain ones."""
    if category_of(cell.prediction) == ARTIFACT:
        return {"name": ARTIFACT, "color": list(_ARTIFACT_COLOR)}
    label, color = cell.prediction.label, list(CLASS_COLORS[cell.prediction.label])
    if cell.prediction.outcome is Outcome.NEEDS_REVIEW:
        return {"names": [label.value, _REVIEW], "color": color}
    return {"name": label.value, "color": color}


def _ring(box: Box) -> list[list[int]]:
    """Return a box as a closed ring, counter-clockwise in its coordinates (RFC 7946, section 3.1.6)."""
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]

"""Cells as COCO object detections (https://cocodataset.org/#format-data), for annotation tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from wbctool.labels import CellClass
from wbctool.report.categories import ARTIFACT, category_of
from wbctool.store.ownership import FileKind, begins_with
from wbctool.text import encode_name
from wbctool.types.cells import Cell
from wbctool.types.results import PublishedSlide

_CATEGORY_IDS = {
    name: number for number, name in enumerate((*CellClass, ARTIFACT), start=1)
}  # from 1, as 0 is often the background

_LEUKOCYTES = {label for label in CellClass if label.is_leukocyte}


# An annotation tool lays the file out in its own way, so that what somebody annotated is known.
_BEGINNING = b'{\n "info": {\n  "description": "White cells found and classified by wbctool.'
COCO_FILE = FileKind("a COCO dataset as `wbctool export coco` writes it", begins_with(_BEGINNING))


def coco_json(
    slides: Iterable[PublishedSlide], sizes_px: Mapping[tuple[str, str], tuple[int, int]], root_slide: str | None = None
) -> str:
    """Return all slides as one COCO data set.

    Every field in ``sizes_px`` is an image, with or without cells. An annotation also has the confidence of the
    classifier as ``score``, and ``attributes``, which COCO does not define.

    Args:
        slides: The slides, with all their cells.
        sizes_px: (width, height) in pixels of each analyzed field, by (slide, field).
        root_slide: Id of the slide whose images lie in SLIDES itself, or None. It is needed because ``file_name`` is
            the path of an image below SLIDES.

    Returns:
        The data set as JSON. Bounding boxes are (x, y, width, height) in pixels from the top left.

    References:
        COCO data format, https://cocodataset.org/#format-data
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for slide in slides:
        image_ids: dict[str, int] = {}
        for field in slide.field_names:
            size = sizes_px.get((slide.result.slide, field))
            if size is not None:
                image_ids[field] = len(images) + 1
                folder = "" if slide.result.slide == root_slide else f"{encode_name(slide.result.slide)}/"
                images.append(_image(image_ids[field], f"{folder}{encode_name(field)}", size))
        for cell in slide.result.cells:
            annotations.append(_annotation(len(annotations) + 1, image_ids[cell.field], cell))
    content = {
        "info": {"description": "White cells found and classified by wbctool. Research use only."},
        "licenses": [],
        "categories": [
            {"id": number, "name": str(name), "supercategory": "leukocyte" if name in _LEUKOCYTES else "other"}
            for name, number in _CATEGORY_IDS.items()
        ],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _image(image_id: int, file_name: str, size_px: tuple[int, int]) -> dict[str, Any]:
    """Return the entry of one field."""
    width, height = size_px
    return {"id": image_id, "file_name": file_name, "width": width, "height": height}


def _annotation(annotation_id: int, image_id: int, cell: Cell) -> dict[str, Any]:
    """Return the entry of one cell."""
    box, prediction = cell.detection.box, cell.prediction
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": _CATEGORY_IDS[ARTIFACT if category_of(prediction) == ARTIFACT else prediction.label],
        "bbox": [box.x, box.y, box.width, box.height],
        "area": box.area,
        "iscrowd": 0,
        "segmentation": [],
        "score": prediction.confidence,
        "attributes": {
            "cell": cell.index,
            "outcome": prediction.outcome.value,
            "reason": prediction.reason.value,
            "detection_score": cell.detection.score,
            "cut_by_border": cell.detection.cut_by_border,
            "super_resolved": cell.super_resolved,
        },
    }

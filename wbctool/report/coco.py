"""Cells as COCO object detections (https://cocodataset.org/#format-data), for annotation tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from wbctool.labels import CellClass
from wbctool.layout import name_as_text
from wbctool.records import Cell, PublishedSlide

_CATEGORIES = {label: number for number, label in enumerate(CellClass, start=1)}  # 0 is the background to many tools


def coco_json(slides: Iterable[PublishedSlide], sizes_px: Mapping[tuple[str, str], tuple[int, int]]) -> str:
    """All slides as one data set: every field in ``sizes_px`` is an image, with or without cells.

    sizes_px: (width, height) of each field that was analysed, by (slide, field).
    Beside what COCO asks, an annotation has the classifier's confidence as ``score``, and ``attributes``.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for slide in slides:
        numbers: dict[str, int] = {}
        for field in slide.field_names:
            size = sizes_px.get((slide.result.slide, field))
            if size is not None:
                numbers[field] = len(images) + 1
                images.append(_image(numbers[field], slide.result.slide, field, size))
        for cell in slide.result.cells:
            annotations.append(_annotation(len(annotations) + 1, numbers[cell.field], cell))
    content = {
        "info": {"description": "White cells found and named by wbctool. Research use only."},
        "licenses": [],
        "categories": [
            {"id": number, "name": label.value, "supercategory": "leukocyte" if label.is_leukocyte else "other"}
            for label, number in _CATEGORIES.items()
        ],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _image(number: int, slide: str, field: str, size_px: tuple[int, int]) -> dict[str, Any]:
    width, height = size_px
    file_name = f"{name_as_text(slide)}/{name_as_text(field)}"
    return {"id": number, "file_name": file_name, "width": width, "height": height}


def _annotation(number: int, image: int, cell: Cell) -> dict[str, Any]:
    box, prediction = cell.detection.box, cell.prediction
    return {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORIES[prediction.label],
        "bbox": [box.x, box.y, box.width, box.height],
        "area": box.width * box.height,
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

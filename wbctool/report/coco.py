"""Cells as COCO object detections (https://cocodataset.org/#format-data), for annotation tools."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from wbctool.labels import CellClass
from wbctool.layout import name_as_text
from wbctool.records import Cell
from wbctool.report.places import ARTEFACT, place_of
from wbctool.slide_results import PublishedSlide

_CATEGORIES = {name: number for number, name in enumerate((*CellClass, ARTEFACT), start=1)}  # 0 is often background

_LEUKOCYTES = {label for label in CellClass if label.is_leukocyte}


def coco_json(
    slides: Iterable[PublishedSlide], sizes_px: Mapping[tuple[str, str], tuple[int, int]], root: str | None = None
) -> str:
    """All slides as one data set: every field in ``sizes_px`` is an image, with or without cells.

    sizes_px: (width, height) of each field that was analysed, by (slide, field). root: the slide whose images lie in
    SLIDES itself, for a ``file_name`` is the image's path below SLIDES; None where there is no such slide.
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
                folder = "" if slide.result.slide == root else f"{name_as_text(slide.result.slide)}/"
                images.append(_image(numbers[field], f"{folder}{name_as_text(field)}", size))
        for cell in slide.result.cells:
            annotations.append(_annotation(len(annotations) + 1, numbers[cell.field], cell))
    content = {
        "info": {"description": "White cells found and classified by wbctool. Research use only."},
        "licenses": [],
        "categories": [
            {"id": number, "name": str(name), "supercategory": "leukocyte" if name in _LEUKOCYTES else "other"}
            for name, number in _CATEGORIES.items()
        ],
        "images": images,
        "annotations": annotations,
    }
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _image(number: int, file_name: str, size_px: tuple[int, int]) -> dict[str, Any]:
    width, height = size_px
    return {"id": number, "file_name": file_name, "width": width, "height": height}


def _annotation(number: int, image: int, cell: Cell) -> dict[str, Any]:
    box, prediction = cell.detection.box, cell.prediction
    return {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORIES[ARTEFACT if place_of(prediction) == ARTEFACT else prediction.label],
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

"""What slide.json says of a slide beside its counts: metadata, absolute counts, the quality of each field."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from wbctool.records import AbsoluteCount, Differential, SlideResult
from wbctool.slide_facts import FieldQuality, Lab, SlideMetadata


def metadata_entry(metadata: SlideMetadata) -> dict[str, Any]:
    """All its values as JSON, None where slides.csv says nothing."""
    return asdict(metadata)


def slide_facts(result: SlideResult) -> dict[str, Any]:
    """The entries of slide.json; ``metadata`` and ``absolute_counts`` only where there are any."""
    facts: dict[str, Any] = {}
    if result.metadata is not None:
        facts["metadata"] = metadata_entry(result.metadata)
    if result.differential.analyser is not None:
        facts["absolute_counts"] = _absolute_entry(result.differential)
    facts["quality"] = [_quality_entry(field) for field in result.quality]
    return facts


def _absolute_entry(differential: Differential) -> dict[str, Any]:
    assert differential.analyser is not None
    return {
        "unit": "10^9/L",
        **asdict(differential.analyser),
        "classes": {c.label.value: c.absolute and _absolute_values(c.absolute) for c in differential.classes},
    }


def _absolute_values(count: AbsoluteCount) -> dict[str, Any]:
    values = asdict(count)
    return values | {key: round(values[key], 4) for key in ("value", "ci95_low", "ci95_high")}


def _quality_entry(field: FieldQuality) -> dict[str, Any]:
    return {
        "field": field.field,
        "blur_um": _rounded(field.blur_um, 3),
        "blur_px": _rounded(field.blur_px, 2),
        "cover": _rounded(field.cover, 3),
        "background_lab": _colour(field.background),
        "cells_lab": _colour(field.cells),
        "stain_de": _rounded(field.stain_de, 1),
        "blurred": field.blurred,
        "crowded": field.crowded,
        "strange": field.strange,
    }


def _colour(lab: Lab | None) -> list[float] | None:
    return None if lab is None else [round(value, 1) for value in lab]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

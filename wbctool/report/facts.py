"""What slide.json says of a slide beside its counts: metadata, absolute counts, what is low or high, quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from wbctool.records import AbsoluteCount, Differential
from wbctool.slide_facts import FieldQuality, Lab, Sex, SlideMetadata
from wbctool.slide_results import SlideResult

FACTS = ("metadata", "absolute_counts", "out_of_range", "quality")
OutOfRange = Mapping[str, Mapping[str, str]]  # class -> percent, absolute -> low or high


def slide_facts(result: SlideResult) -> dict[str, Any]:
    """The entries of slide.json, of FACTS; all but ``quality`` only where there are any."""
    facts: dict[str, Any] = {}
    if result.metadata is not None:
        facts["metadata"] = asdict(result.metadata)
    if result.differential.analyser is not None:
        facts["absolute_counts"] = _absolute_entry(result.differential)
    if found := _out_of_range(result.differential):
        facts["out_of_range"] = found
    facts["quality"] = [_quality_entry(field) for field in result.quality]
    return facts


def metadata_of(facts: Mapping[str, Any]) -> SlideMetadata | None:
    """The metadata that :func:`slide_facts` wrote."""
    content = facts.get("metadata")
    if content is None:
        return None
    return SlideMetadata(**{**content, "sex": None if content["sex"] is None else Sex(content["sex"])})


def out_of_range_of(facts: Mapping[str, Any]) -> OutOfRange:
    """What :func:`slide_facts` wrote of percents and absolute counts beyond their reference ranges."""
    return {str(label): dict(found) for label, found in facts.get("out_of_range", {}).items()}


def quality_of(facts: Mapping[str, Any]) -> tuple[FieldQuality, ...]:
    """The fields' quality that :func:`slide_facts` wrote, as rounded there: written again, it is the same."""
    return tuple(
        FieldQuality(
            **{name: value for name, value in entry.items() if not name.endswith("_lab")},
            background=_lab(entry["background_lab"]),
            cells=_lab(entry["cells_lab"]),
        )
        for entry in facts.get("quality", ())
    )


def _out_of_range(differential: Differential) -> OutOfRange:
    """By class, of ``percent`` and ``absolute`` what is low or high."""
    found = {}
    for count in differential.classes:
        flags = {"percent": count.flag, "absolute": count.absolute.flag if count.absolute else ""}
        if any(flags.values()):
            found[count.label.value] = {what: flag for what, flag in flags.items() if flag}
    return found


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
        "red_cell_um": _rounded(field.red_cell_um, 1),
        "misscaled": field.misscaled,
        "same_as": field.same_as,
    }


def _colour(lab: Lab | None) -> list[float] | None:
    return None if lab is None else [round(value, 1) for value in lab]


def _lab(values: Sequence[float] | None) -> Lab | None:
    if values is None:
        return None
    lightness, a, b = values
    return lightness, a, b


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

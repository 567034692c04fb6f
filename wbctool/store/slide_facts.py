"""What slide.json says of a slide beside its counts: metadata, absolute counts, what is low or high, quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from wbctool.types.cells import AbsoluteCount, Differential
from wbctool.types.results import SlideResult
from wbctool.types.slides import CieLab, FieldQuality, Sex, SlideMetadata

DETAIL_KEYS = ("metadata", "absolute_counts", "out_of_range", "quality")
OutOfRange = Mapping[str, Mapping[str, str]]  # class -> percent, absolute -> low or high


def build_details(result: SlideResult) -> dict[str, Any]:
    """The entries of slide.json, of FACTS; all but ``quality`` only where there are any."""
    details: dict[str, Any] = {}
    if result.metadata is not None:
        details["metadata"] = asdict(result.metadata)
    if result.differential.analyzer is not None:
        details["absolute_counts"] = _absolute_entry(result.differential)
    if flags_by_class := _out_of_range(result.differential):
        details["out_of_range"] = flags_by_class
    details["quality"] = [_quality_entry(field) for field in result.quality]
    return details


def parse_metadata(details: Mapping[str, Any]) -> SlideMetadata | None:
    """The metadata that :func:`build_details` wrote."""
    content = details.get("metadata")
    if content is None:
        return None
    return SlideMetadata(**{**content, "sex": None if content["sex"] is None else Sex(content["sex"])})


def parse_out_of_range(details: Mapping[str, Any]) -> OutOfRange:
    """What :func:`build_details` wrote of percents and absolute counts beyond their reference ranges."""
    return {str(label): dict(found) for label, found in details.get("out_of_range", {}).items()}


def parse_quality(details: Mapping[str, Any]) -> tuple[FieldQuality, ...]:
    """The fields' quality that :func:`build_details` wrote, as rounded there: written again, it is the same."""
    return tuple(
        FieldQuality(
            **{name: value for name, value in entry.items() if name not in {"background_color", "cell_color"}},
            background_color=_parse_color(entry["background_color"]),
            cell_color=_parse_color(entry["cell_color"]),
        )
        for entry in details.get("quality", ())
    )


def _out_of_range(differential: Differential) -> OutOfRange:
    """By class, of ``percent`` and ``absolute`` what is low or high."""
    flags_by_class = {}
    for count in differential.classes:
        flags = {"percent": count.flag, "absolute": count.absolute.flag if count.absolute else ""}
        if any(flags.values()):
            flags_by_class[count.label.value] = {what: flag for what, flag in flags.items() if flag}
    return flags_by_class


def _absolute_entry(differential: Differential) -> dict[str, Any]:
    assert differential.analyzer is not None
    return {
        "unit": "10^9/L",
        **asdict(differential.analyzer),
        "classes": {c.label.value: c.absolute and _absolute_values(c.absolute) for c in differential.classes},
    }


def _absolute_values(count: AbsoluteCount) -> dict[str, Any]:
    values = asdict(count)
    return values | {key: round(values[key], 4) for key in ("value", "ci95_low", "ci95_high")}


def _quality_entry(field: FieldQuality) -> dict[str, Any]:
    return {
        "field": field.field,
        "blur_um": _round_or_none(field.blur_um, 3),
        "blur_px": _round_or_none(field.blur_px, 2),
        "coverage": _round_or_none(field.coverage, 3),
        "background_color": _round_color(field.background_color),
        "cell_color": _round_color(field.cell_color),
        "stain_delta_e": _round_or_none(field.stain_delta_e, 1),
        "blurred": field.blurred,
        "crowded": field.crowded,
        "stain_out_of_range": field.stain_out_of_range,
        "red_cell_um": _round_or_none(field.red_cell_um, 1),
        "scale_mismatch": field.scale_mismatch,
        "duplicate_of": field.duplicate_of,
    }


def _round_color(color: CieLab | None) -> list[float] | None:
    return None if color is None else [round(value, 1) for value in color]


def _parse_color(values: Sequence[float] | None) -> CieLab | None:
    if values is None:
        return None
    lightness, a, b = values
    return lightness, a, b


def _round_or_none(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

"""Names that cards and settings had before version 0.2.

Two things need them: an error that says the new name, and fingerprints. A slide's fingerprint is taken over the former
names, so that a rename does not process any slide again or end its review.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

SETTINGS = {
    "min_counted": "low_count_below",
    "limited_counted": "limited_count_below",
    "immature_granulocytes_from": "min_immature_granulocytes",
    "nrbc_from": "min_nrbc",
    "blur_um": "max_blur_um",
    "blur_px": "min_blur_px",
    "blur_ratio": "max_relative_blur",
    "crowded_cover": "max_coverage",
    "stain_de": "max_stain_delta_e",
}
CARD = {
    "licence": "license",
    "copy_of": "quantized_from",
    "origins": "datasets",
    "sources": "groups",
    "splitting": "group_split",
    "left_out": "held_out_datasets",
    "parent_sha256": "source_sha256",
    "pictures": "images",
    "accuracy_copy": "accuracy_quantized",
    "kept_fp32": "fp32_layers",
}
DETECTOR_CARD = {
    **CARD,
    "targets": "classes",
    "long_side_px": "input_long_side_px",
    "multiple_px": "size_divisor",
    "red_cell_px": "target_red_cell_px",
    "red_cell_min_px": "min_red_cell_px",
    "glance_px": "preview_px",
    "faint_threshold": "low_score_threshold",
    "max_overlap": "nms_iou_threshold",
    "colours": "stain_reference",
    "origin": "dataset",
}


def restore_former_names(content: Any, renames: Mapping[str, str]) -> Any:
    """Return JSON values with every key of theirs that was renamed under its former name.

    Args:
        content: JSON values; mappings are renamed at every depth.
        renames: The current name of each former one.

    >>> restore_former_names({"low_count_below": 100, "adult": False}, SETTINGS)
    {'min_counted': 100, 'adult': False}
    """
    if isinstance(content, Mapping):
        former = {new: old for old, new in renames.items()}
        return {former.get(key, key): restore_former_names(value, renames) for key, value in content.items()}
    if isinstance(content, list):
        return [restore_former_names(value, renames) for value in content]
    return content


def describe_renames(keys: Iterable[str], renames: Mapping[str, str]) -> str:
    """Say how the former names among ``keys`` are called now; empty if there is none.

    >>> describe_renames(["adult", "nrbc_from"], SETTINGS)
    'nrbc_from is now called min_nrbc'
    """
    return ", ".join(f"{key} is now called {renames[key]}" for key in keys if key in renames)

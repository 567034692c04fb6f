"""Former names of settings, keys of cards, and options.

Errors need them to say the new name, and fingerprints are taken over them, so that a rename does not process any slide
again or end its review.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
_LATER_SETTINGS = {"readers": "vgg19", "min_possible_blasts": 2}
"""The settings that came after the first results, each with the value that changes nothing in these."""

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
COMMAND_LINE = {
    "evaluate": {"--strangers": "--ood-images", "--split held-back": "--split test"},
    "train": {
        "--start-from": "--init-from",
        "--leave-out": "--hold-out-dataset",
        "--recipe calibrate": "`wbctool calibrate`",
        "--compare": "`python -m experiments.backbones`",
        "--ablate": "`python -m experiments.losses`",
    },
    "models": {"colours": "`wbctool models stain-reference`"},
}


def restore_former_names(content: Any, renames: Mapping[str, str]) -> Any:
    """Give the keys of JSON values their former names.

    Args:
        content: JSON values; keys are renamed at every depth.
        renames: The current name of each former one.

    Returns:
        A copy with the former keys.

    >>> restore_former_names({"low_count_below": 100, "adult": False}, SETTINGS)
    {'min_counted': 100, 'adult': False}
    """
    if isinstance(content, Mapping):
        former = {new: old for old, new in renames.items()}
        return {former.get(key, key): restore_former_names(value, renames) for key, value in content.items()}
    if isinstance(content, list):
        return [restore_former_names(value, renames) for value in content]
    return content


def fingerprint_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a fingerprint takes them, so that results of earlier versions stay up to date.

    Args:
        settings: JSON values by the current names.

    Returns:
        The values by their former names. Settings that came later are left out if they do what was always done.

    >>> fingerprint_settings({"min_nrbc": 1, "readers": "vgg19"})
    {'nrbc_from': 1}
    """
    kept = {name: value for name, value in settings.items() if _LATER_SETTINGS.get(name) != value}
    return dict(restore_former_names(kept, SETTINGS))


def describe_renames(keys: Iterable[str], renames: Mapping[str, str]) -> str:
    """Say how the former names among keys are called now.

    Args:
        keys: Names that a user's file has.
        renames: The current name of each former one.

    Returns:
        A text for an error message; empty if no former name is among the keys.

    >>> describe_renames(["adult", "nrbc_from"], SETTINGS)
    'nrbc_from is now called min_nrbc'
    """
    return ", ".join(f"{key} is now called {renames[key]}" for key in keys if key in renames)


def describe_former_arguments(arguments: Sequence[str]) -> str:
    """Say how a former option, value or command is called now.

    Args:
        arguments: The command line after the program's name.

    Returns:
        A text for an error message; empty if no former name is among the arguments.

    >>> describe_former_arguments(["evaluate", "data", "--split=held-back"])
    '--split held-back is now --split test'
    """
    renames = COMMAND_LINE.get(arguments[0], {}) if arguments else {}
    text = f" {' '.join(arguments[1:])} ".replace("=", " ")
    return ", ".join(f"{old} is now {new}" for old, new in renames.items() if f" {old} " in text)

"""Records of schema version 1, brought to the current one so that older results stay readable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wbctool import former_names

SLIDE_SCHEMA, RUN_SCHEMA = "wbctool-slide/1", "wbctool-run/1"
_QUALITY = {
    "cover": "coverage",
    "background_lab": "background_color",
    "cells_lab": "cell_color",
    "stain_de": "stain_delta_e",
    "strange": "stain_out_of_range",
    "misscaled": "scale_mismatch",
    "same_as": "duplicate_of",
}
_REVIEW = {"moved": "n_reclassified", "entry": "entry_sha256"}
_RUN = {"batch_rows": "batch_sizes", "device_note": "device_message"}
_RUN_SLIDE = {"done_in_this_run": "done_in_run"}


def upgrade_slide(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a slide.json of version 1 under the current names.

    Args:
        content: The JSON values of the file, already checked against its checksum.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: The values are not those of a slide.json.
    """
    provenance = content["provenance"]
    settings = [(former_names.SETTINGS.get(name, name), value) for name, value in provenance["settings"]]
    return {
        **content,
        "limits": _rename(content["limits"], former_names.SETTINGS),
        "provenance": {**provenance, "settings": settings},
        "reviews": [_rename(review, _REVIEW) for review in content["reviews"]],
        "quality": [_rename(field, _QUALITY) for field in content["quality"]],
    }


def upgrade_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a run.json of version 1 under the current names.

    Args:
        content: The JSON values of the file.

    Raises:
        KeyError, TypeError, AttributeError: The values are not those of a run.json.
    """
    upgraded = {**_rename(content, _RUN), "settings": _rename(content["settings"], former_names.SETTINGS)}
    if "slides" in content:
        upgraded["slides"] = [_rename(slide, _RUN_SLIDE) for slide in content["slides"]]
    return upgraded


def _rename(entry: Mapping[str, Any], renames: Mapping[str, str]) -> dict[str, Any]:
    """Return an entry with its former keys under their current names."""
    return {renames.get(key, key): value for key, value in entry.items()}

"""The files of an adaptation beside its models: adaptation.json and adaptation.html."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from jinja2 import Environment

import wbctool
from wbctool.adaptation.adapt import Adaptation
from wbctool.adaptation.cells import count_labels
from wbctool.adaptation.sources import LaboratoryCells
from wbctool.imaging.thumbnails import make_cell_thumbnail
from wbctool.labels import CellClass
from wbctool.paths import ADAPTATION_HTML, ADAPTATION_JSON, ADAPTATION_SCHEMA
from wbctool.report.render import template_environment
from wbctool.store.atomic_write import write_atomic_group
from wbctool.store.model_ownership import check_models_overwrite
from wbctool.store.ownership import FileKind, check_overwrite_folder, has_schema
from wbctool.text import pluralize


def check_adaptation_folder(out: Path) -> None:
    """Check that an adaptation would replace no file that is not from one.

    Raises:
        SettingsInvalid: It would; the message names the file.
    """
    kind = FileKind("a result of `wbctool adapt`", has_schema(ADAPTATION_SCHEMA))
    check_overwrite_folder(out, ADAPTATION_JSON, kind, (ADAPTATION_HTML,), "--out")
    check_models_overwrite(out)


def write_adaptation_report(adaptation: Adaptation, laboratory: LaboratoryCells, out: Path) -> Path:
    """Write what an adaptation is worth.

    Args:
        adaptation: The adaptation.
        laboratory: The cells that it was fitted to.
        out: The folder of the models.

    Returns:
        The path of the page.

    Raises:
        OutputNotWritable: A file cannot be written.
    """
    comparison, cells_by_label = adaptation.comparison, count_labels(laboratory.cells)
    header = {
        "schema": ADAPTATION_SCHEMA,
        "laboratory": out.resolve().name,
        "tool_version": wbctool.__version__,
        "parents": {card.file: card.sha256 for card in adaptation.parents},
        "methods": {reader.card.file: reader.method for reader in adaptation.readers},
        "l2_penalties": {reader.card.file: reader.l2_penalty for reader in adaptation.readers},
        "readers": list(laboratory.labeled_by),
        "cells": len(laboratory.cells),
        "slides": len({cell.group for cell in laboratory.cells}),
        "cells_by_label": dict(sorted(cells_by_label.items())),
        "measured_at_random": adaptation.measured_at_random,
        "notes": [*laboratory.notes, *adaptation.notes],
    }
    doubtful = [
        {"origin": cell.origin, "label": str(cell.label), "looks_like": label.value}
        for cell, label in adaptation.doubtful
    ]
    content = {**header, "comparison": asdict(comparison), "doubtful_labels": doubtful}
    thumbnails = [make_cell_thumbnail(cell.crop) for cell, _ in adaptation.doubtful]
    page = (
        _create_environment()
        .get_template("adaptation.html.j2")
        .render(
            header=header,
            comparison=comparison,
            classes=[label for label in CellClass if label in comparison.after.recall or cells_by_label.get(label)],
            doubtful=list(zip(doubtful, thumbnails, strict=True)),
        )
    )
    path = out / ADAPTATION_HTML
    write_atomic_group({path: page.encode(), out / ADAPTATION_JSON: (json.dumps(content, indent=1) + "\n").encode()})
    return path


@cache
def _create_environment() -> Environment:
    """Return the template environment with the filters of the page."""
    environment = template_environment("wbctool.adaptation")
    environment.filters.update(pluralize=pluralize)
    return environment

"""label.html: one self-contained page on which a reader names cells, one at a time, and saves a labels file.

The page holds the cells' part of that file ready, what each cell was chosen for included, which it does not show.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import wbctool
from wbctool.adaptation import strings
from wbctool.adaptation.candidates import Candidate
from wbctool.adaptation.cell_images import CellImages
from wbctool.adaptation.labels_file import (
    MAX_READER_CHARACTERS,
    SCHEMA,
    ChosenCell,
    NoClass,
    Purpose,
    dump_chosen_cell,
)
from wbctool.labels import CellClass, UnknownKind
from wbctool.paths import labels_file_stem
from wbctool.report.categories import ARTIFACT, CATEGORY_KEYS, CLASS_KEYS
from wbctool.report.render import data_uri, render_page
from wbctool.report.strings import CELL_LOCATION, humanize
from wbctool.store.ownership import FileKind, begins_with
from wbctool.text import display_name

_PAGE_BEGINNING = b'<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="wbctool label">\n'
LABEL_PAGE_FILE = FileKind("a page of `wbctool label`", begins_with(_PAGE_BEGINNING))
_KIND_KEYS = {
    UnknownKind.BLAST: "b",
    UnknownKind.ATYPICAL_LYMPHOCYTE: "l",
    UnknownKind.BILOBED_PROMYELOCYTE: "p",
    UnknownKind.SMUDGE: "s",
    NoClass.NONE_OF_THESE: CATEGORY_KEYS[ARTIFACT],
}
_TOP_CLASSES = 3


def render_label_page(
    name: str,
    chosen: Sequence[tuple[Candidate, Purpose]],
    cell_images: Mapping[tuple[str, int], CellImages],
    classes: Sequence[CellClass],
    cells_sha256: Mapping[str, str],
) -> str:
    """Render the page as HTML; the same cells and images give the same bytes.

    Args:
        name: The name of the results, after which the labels file is called.
        chosen: The cells in the order in which they are shown, each with what it was chosen for.
        cell_images: The images of each cell, by slide and row.
        classes: The classes that a reader can choose.
        cells_sha256: The SHA-256 of the run's own cells, by slide.
    """
    entries = [dump_chosen_cell(_chosen_cell(candidate, purpose)) for candidate, purpose in chosen]
    slides = {candidate.slide for candidate, _ in chosen}
    results = {slide: sha256 for slide, sha256 in cells_sha256.items() if slide in slides}
    page = hashlib.sha256(json.dumps([results, entries]).encode()).hexdigest()
    shown = [cell_images[candidate.slide, candidate.row] for candidate, _ in chosen]
    fields = {content: index for index, content in enumerate(dict.fromkeys(p.surroundings for p in shown))}
    data = {
        "labels": {
            "schema": SCHEMA,
            "tool_version": wbctool.__version__,
            "page": page,
            "cells_asked": len(chosen),
            "results": results,
        },
        "file_stem": labels_file_stem(name),
        "cells": [
            {
                "entry": entry,
                "picture": data_uri(image.cell),
                "field": fields[image.surroundings],
                "region": [image.region.x, image.region.y, image.region.width, image.region.height],
                "answer": _answer_text(candidate),
            }
            for entry, image, (candidate, _) in zip(entries, shown, chosen, strict=True)
        ],
        "fields": [data_uri(content) if content else "" for content in fields],
        "names": {label: strings.NAMES.get(label, humanize(label)) for label in (*CellClass, *UnknownKind, *NoClass)},
        "texts": strings.SCRIPT,
    }
    return render_page(
        "label.html.j2",
        "label.css",
        ("label_state.js", "label_view.js", "label.js"),
        package="wbctool.adaptation",
        s=strings,
        data=data,
        n_cells=len(chosen),
        class_keys=[(key, label) for label, key in CLASS_KEYS.items() if label in classes],
        kind_keys=[(key, label) for label, key in _KIND_KEYS.items()],
        unsure_key=("c", NoClass.CANNOT_TELL),
        max_reader_characters=MAX_READER_CHARACTERS,
    )


def _chosen_cell(candidate: Candidate, purpose: Purpose) -> ChosenCell:
    """Return a cell as the labels file has it."""
    return ChosenCell(
        slide=candidate.slide,
        field=candidate.cell.field,
        field_sha256=candidate.field_sha256,
        cell=candidate.cell.index,
        box=candidate.cell.detection.box,
        chosen=purpose,
    )


def _answer_text(candidate: Candidate) -> str:
    """Return the tool's own answer, and where the cell is, as the page shows them on request."""
    prediction = candidate.cell.prediction
    ranked = sorted(zip(candidate.probabilities, CellClass, strict=True), key=lambda pair: -pair[0])
    likely = ", ".join(f"{humanize(label)} {share:.2f}" for share, label in ranked[:_TOP_CLASSES] if share >= 0.005)
    reason = strings.REASONS.get(prediction.reason, humanize(prediction.reason))
    location = CELL_LOCATION.format(field=display_name(candidate.cell.field), cell=candidate.cell.index)
    return strings.ANSWER.format(
        likely=likely,
        outcome=strings.OUTCOMES[prediction.outcome],
        reason=f" ({reason})" if prediction.reason not in ("", prediction.label) else "",
        slide=display_name(candidate.slide),
        location=location,
    )

"""report.html: one slide on one self-contained page, for a reader to look through and correct."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wbctool.labels import CellClass
from wbctool.layout import name_shown
from wbctool.records import Cell, ClassCount
from wbctool.report import texts
from wbctool.report.facts import quality_of, slide_facts
from wbctool.report.gallery import CellView, Group, choose_pictures
from wbctool.report.headlines import about, findings, least_counted, level, remarks, verdict, without_fields
from wbctool.report.page import render_page
from wbctool.report.places import PLACES, place_of
from wbctool.report.tables import cells_csv, percent
from wbctool.slide_results import Provenance, SlideResult


def render_report(result: SlideResult, provenance: Provenance) -> str:
    """The page as HTML; the same result gives the same bytes."""
    cells = tuple(_as_written(cell) for cell in result.cells)
    result = replace(result, cells=cells, quality=quality_of(slide_facts(result)))  # as a later page will have them
    fields = tuple(dict.fromkeys(cell.field for cell in result.cells))
    gallery = choose_pictures(result, fields)
    groups = gallery.groups
    table = cells_csv(result.slide, result.cells, provenance.classes)
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    return render_page(
        "report.html.j2",
        "report.css",
        ("binomial.js", "report.js"),
        result=result,
        differential=result.differential,
        provenance=provenance,
        level=level(result),
        verdict=verdict(result),
        about=about(result),
        remarks=list(remarks(result)),
        readers=", ".join(dict.fromkeys(review.reader for review in result.reviews)),
        findings=findings(result),
        limits=[flag for flag in result.differential.flags if flag not in texts.FINDINGS],
        bars={count.label.value: bar(count) for count in result.differential.classes},
        groups=groups,
        gallery=gallery,
        overviews=[(fields.index(picture.name), picture) for picture in gallery.overviews],
        boxes=_boxes(groups),
        second=lambda view: second_class(view, provenance.classes),
        cells_sha256=sha256,
        data=_data(result, provenance, fields, groups, sha256),
    )


def bar(count: ClassCount) -> dict[str, str]:
    """The drawing of one class on a scale of 0 to 100: x of the bar, the interval, the review span; and it in words."""
    drawn = {
        "pct": percent(count.percent),
        "low": percent(count.ci95_low),
        "high": percent(count.ci95_high),
        "none": percent(count.review_low),
        "all": percent(count.review_high),
        "alt": texts.NOTHING_COUNTED,
    }
    if count.percent is not None:
        words = {"percent": drawn["pct"], "low": drawn["low"], "high": drawn["high"]}
        drawn["alt"] = texts.CHART_ALT.format(**words, none=drawn["none"], all=drawn["all"])
    return drawn


def second_class(view: CellView, classes: Sequence[CellClass]) -> str:
    """The second most probable class in words; empty where the model knows but one."""
    ranked = sorted(zip(view.cell.prediction.probabilities, classes, strict=True), key=lambda pair: -pair[0])
    others = [pair for pair in ranked if pair[1] is not view.cell.prediction.label]
    if not others:
        return ""
    return texts.SECOND.format(label=texts.words(others[0][1].value), probability=others[0][0])


def _as_written(cell: Cell) -> Cell:
    """A cell with its probabilities as cells.csv has them, so that a page made from that table is the same."""
    prediction = cell.prediction
    confidence, *probabilities = (float(f"{p:.4f}") for p in (prediction.confidence, *prediction.probabilities))
    return replace(cell, prediction=replace(prediction, confidence=confidence, probabilities=tuple(probabilities)))


def _boxes(groups: Sequence[Group]) -> Mapping[str, list[CellView]]:
    """The shown cells of each field, in order."""
    boxes: dict[str, list[CellView]] = {}
    for view in sorted((view for group in groups for view in group.views), key=lambda view: view.row):
        boxes.setdefault(view.cell.field, []).append(view)
    return boxes


def _data(
    result: SlideResult, provenance: Provenance, fields: Sequence[str], groups: Sequence[Group], sha256: str
) -> Mapping[str, Any]:
    """What the page's script works on, and what a review finds again. One row a cell: field, cell, box, place, ‰."""
    at = {name: index for index, name in enumerate(fields)}
    cells = [
        [
            *(at[cell.field], cell.index, box.x, box.y, box.width, box.height),
            PLACES.index(place_of(cell.prediction)),
            [round(1000 * probability) for probability in cell.prediction.probabilities],
        ]
        for cell in result.cells
        for box in (cell.detection.box,)
    ]
    return {
        "schema": "wbctool-report/1",
        "slide": result.slide,
        "results": sha256,
        "places": PLACES,
        "names": [texts.words(place) for place in PLACES],
        "known": [label.value for label in provenance.classes],
        "fields": fields,
        "shown": [name_shown(name) for name in fields],
        "cells": cells,
        "comments": {note.row: note.comment for note in result.notes if note.comment},
        "attention": {
            view.row: base64.b64encode(view.cell.prediction.attention).decode("ascii")
            for group in groups
            for view in group.views
            if view.cell.prediction.attention
        },
        "texts": {
            **texts.PANEL,
            "chart": texts.CHART_ALT,
            "note": texts.COUNTS_NOTE,
            "where": texts.WHERE,
            "verdict": {
                "no_wbc": texts.VERDICT_NO_WBC,
                "all_in_review": texts.VERDICT_ALL_IN_REVIEW,
                "low": texts.VERDICT_LOW,
                "enough": texts.VERDICT,
                "review": texts.VERDICT_REVIEW,
            },
            "without": without_fields(result),
        },
        "min_counted": least_counted(result, provenance),
        "slide_fields": result.fields,
    }

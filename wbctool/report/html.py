"""report.html: one slide on one self-contained page, which a reader checks and corrects."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from wbctool.labels import DIFFERENTIAL_CLASSES, SUBTYPES_BY_CLASS, CellClass
from wbctool.paths import INDEX_HTML, review_file_stem
from wbctool.report import strings
from wbctool.report.categories import CATEGORIES, CATEGORY_KEYS, category_of
from wbctool.report.csv_tables import cells_csv, hash_cells
from wbctool.report.gallery import DOUBTED_REASONS, CellTile, GallerySection, page_fields, select_thumbnails
from wbctool.report.render import render_page
from wbctool.report.summary import (
    failed_fields_clause,
    field_remarks,
    find_result_severity,
    finding_links,
    findings,
    limitations,
    low_count_threshold,
    metadata_rows,
    scan_lines,
    scan_sentence,
    summary_sentence,
)
from wbctool.text import display_name
from wbctool.types.cells import Outcome, Reason
from wbctool.types.differential import ClassCount, Flag
from wbctool.types.results import Provenance, SlideResult


def render_report(result: SlideResult, provenance: Provenance, images_elsewhere: bool = False) -> str:
    """Render a slide's page as HTML; the same result gives the same bytes.

    Args:
        result: The slide, with the thumbnails to show.
        provenance: What made the result.
        images_elsewhere: Whether the images are in ``original-report.html`` alone, as for results of schema version 1.
    """
    fields = page_fields(result)
    gallery = select_thumbnails(result, fields)
    sections = gallery.sections
    table = cells_csv(result.slide, result.cells, provenance.classes, result.later_columns)
    sha256 = hashlib.sha256(table.encode()).hexdigest()
    return render_page(
        "report.html.j2",
        "report.css",
        (
            "binomial.js",
            "counts.js",
            "cells.js",
            "kept.js",
            "gallery.js",
            "selection.js",
            "panel.js",
            "review.js",
            "report.js",
        ),
        result=result,
        index_link="../" * len(result.slide.split("/")) + INDEX_HTML,
        differential=result.differential,
        provenance=provenance,
        severity=find_result_severity(result),
        tone=find_result_severity(replace(result, reviews=())),  # a review changes the words, not what the slide shows
        verdict=summary_sentence(result),
        metadata=metadata_rows(result),
        field_remarks=field_remarks(result, provenance),
        scan_sentence=scan_sentence(result.scan) if result.scan else "",
        scan_lines=scan_lines(result.scan) if result.scan else [],
        readers=", ".join(dict.fromkeys(review.reader for review in result.reviews)),
        finding_links=finding_links(result),
        findings=findings(result),
        limitations=limitations(result, provenance),
        columns=_table_columns(result),
        subtypes=(subtypes := count_subtypes(result)),
        has_subtype_rows=any(c.n for c in result.differential.classes if c.label.value in subtypes),
        bars={count.label.value: bar_geometry(count) for count in result.differential.classes},
        sections=sections,
        gallery=gallery,
        doubted_reasons=DOUBTED_REASONS,
        field_indices={thumbnail.name: fields.index(thumbnail.name) for thumbnail in gallery.field_thumbnails},
        field_thumbnails=[(fields.index(thumbnail.name), thumbnail) for thumbnail in gallery.field_thumbnails],
        tiles_by_field=_tiles_by_field(sections),
        second_class=lambda tile: second_class_text(tile, provenance.classes),
        reason_text=lambda reason: reason_text(reason, result.differential.flags),
        cells_sha256=sha256,
        images_elsewhere=images_elsewhere,
        data=_script_data(result, provenance, fields, sections),
    )


def _table_columns(result: SlideResult) -> list[str]:
    """Return the columns of the differential; on an unfamiliar slide the range that review leaves open comes first."""
    columns = list(strings.TABLE_HEADINGS)
    if Flag.UNFAMILIAR in result.differential.flags:
        columns.sort(key=lambda column: column != "review-range")
    return columns


def count_subtypes(result: SlideResult) -> dict[str, dict[str, tuple[int, float | None]]]:
    """Count the finer kinds of a slide's counted cells.

    Returns:
        By class and subtype, the number and the percent of all counted cells; under an empty name, the cells of the
        class that have no subtype. Classes of which the slide has no cell with a subtype are left out.
    """
    predictions = [cell.prediction for cell in result.cells]
    counts = Counter((p.label, p.subtype) for p in predictions if p.outcome is Outcome.COUNTED)
    total = result.differential.counted
    return {
        label.value: {
            subtype or "": (counts[label, subtype], 100 * counts[label, subtype] / total if total else None)
            for subtype in (*subtypes, None)
        }
        for label, subtypes in SUBTYPES_BY_CLASS.items()
        if any(p.subtype in subtypes for p in predictions)
    }


def bar_geometry(count: ClassCount) -> dict[str, str]:
    """Return what the chart of one class shows, as text with one decimal on a scale of 0 to 100.

    Returns:
        ``percent``, ``ci_low``, ``ci_high``: the bar and its interval. ``review_low``, ``review_high``: the percentage
        if none or all of the cells in review were of this class. All are empty if nothing was counted. ``alt``: the
        same as a sentence.
    """
    geometry = {
        "percent": strings.show_percent(count.percent),
        "ci_low": strings.show_percent(count.ci95_low),
        "ci_high": strings.show_percent(count.ci95_high),
        "review_low": strings.show_percent(count.review_low),
        "review_high": strings.show_percent(count.review_high),
    }
    alt = strings.NOTHING_COUNTED if count.percent is None else strings.CHART_ALT.format(**geometry)
    return {**geometry, "alt": alt}


def second_class_text(tile: CellTile, classes: Sequence[CellClass]) -> str:
    """Return the second most probable class with its probability; empty if there is none, or it rounds to 0.00."""
    ranked = sorted(zip(tile.cell.prediction.probabilities, classes, strict=True), key=lambda pair: -pair[0])
    others = [pair for pair in ranked if pair[1] is not tile.cell.prediction.label]
    if not others or others[0][0] < 0.005:
        return ""
    return strings.SECOND_CLASS.format(label=strings.humanize(others[0][1].value), probability=others[0][0])


def reason_text(reason: Reason, flags: Sequence[Flag]) -> str:
    """Return why a cell is not counted, in words.

    Args:
        reason: The reason. ``unfamiliar_slide`` also stands for a slide of too few cells to decide.
        flags: The slide's flags, by which the two are told apart.
    """
    if reason is Reason.UNFAMILIAR_SLIDE and Flag.UNFAMILIAR not in flags:
        return strings.UNKNOWN_FAMILIARITY
    return strings.humanize(reason.value)


def _tiles_by_field(sections: Sequence[GallerySection]) -> Mapping[str, list[CellTile]]:
    """Group the shown cells by field, in the order of cells.csv."""
    tiles_by_field: dict[str, list[CellTile]] = {}
    for tile in sorted((tile for section in sections for tile in section.tiles), key=lambda tile: tile.row):
        tiles_by_field.setdefault(tile.cell.field, []).append(tile)
    return tiles_by_field


def _script_data(
    result: SlideResult, provenance: Provenance, fields: Sequence[str], sections: Sequence[GallerySection]
) -> Mapping[str, Any]:
    """Return the data of the page's script. A row of ``cells``: field, cell, box, category, ‰, subtype."""
    field_indices = {name: index for index, name in enumerate(fields)}
    cells = [
        [
            *(field_indices[cell.field], cell.index, box.x, box.y, box.width, box.height),
            CATEGORIES.index(category_of(cell.prediction)),
            [round(1000 * probability) for probability in cell.prediction.probabilities],
            cell.prediction.subtype or "",
        ]
        for cell in result.cells
        for box in (cell.detection.box,)
    ]
    return {
        "schema": "wbctool-report/1",
        "slide": result.slide,
        "results": hash_cells(result, provenance.classes),
        "review_times": [review.time for review in result.reviews],
        "review_file_stem": review_file_stem(result.slide),
        "categories": CATEGORIES,
        "category_names": [strings.humanize(category) for category in CATEGORIES],
        "category_by_key": {key: category for category, key in CATEGORY_KEYS.items()},
        "differential_classes": DIFFERENTIAL_CLASSES,
        "subtype_classes": {
            subtype.value: label.value for label, subtypes in SUBTYPES_BY_CLASS.items() for subtype in subtypes
        },
        "model_classes": [label.value for label in provenance.classes],
        "fields": fields,
        "field_display_names": [display_name(name) for name in fields],
        "cells": cells,
        "comments": {note.row: note.comment for note in result.notes if note.comment},
        "tool_categories": {note.row: note.original for note in result.notes},
        "cam": {
            tile.row: base64.b64encode(tile.cell.prediction.cam).decode("ascii")
            for section in sections
            for tile in section.tiles
            if tile.cell.prediction.cam
        },
        "texts": _script_texts(result),
        "low_count_below": low_count_threshold(result, provenance),
        "slide_fields": result.fields,
    }


def _script_texts(result: SlideResult) -> Mapping[str, Any]:
    """Return the texts that the page's script shows."""
    is_unfamiliar = Flag.UNFAMILIAR in result.differential.flags
    unfamiliar = strings.VERDICT_UNFAMILIAR_REVIEWED if result.reviews else strings.VERDICT_UNFAMILIAR
    return {
        **strings.PANEL,
        **strings.GALLERY,
        "chart_alt": strings.CHART_ALT,
        "nothing_counted": strings.NOTHING_COUNTED,
        "counts_note": strings.COUNTS_NOTE,
        "cell_location": strings.CELL_LOCATION,
        "reclassified": strings.RECLASSIFIED,
        "verdict": {
            "no_wbc": strings.VERDICT_NO_WBC,
            "all_in_review": strings.VERDICT_ALL_IN_REVIEW,
            "low_count": unfamiliar if is_unfamiliar else strings.VERDICT_LOW_COUNT,
            "counted": unfamiliar if is_unfamiliar else strings.VERDICT,
            "moved": strings.VERDICT_UNFAMILIAR_REVIEWED if is_unfamiliar else "",
            "not_yet": strings.NOT_YET,
            "review": strings.VERDICT_REVIEW,
            "failed_fields": failed_fields_clause(result),
        },
    }

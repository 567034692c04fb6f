"""The first lines of a report: severity, verdict, findings, metadata, and remarks on single fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from wbctool.labels import CellClass
from wbctool.paths import SLIDES_CSV
from wbctool.report import strings
from wbctool.report.categories import category_of
from wbctool.report.flag_texts import (
    FINDING_FLAGS,
    FLAG_TEXTS,
    NO_ZONES_LEFT,
    SCAN_FLAG_TEXTS,
    UNFAMILIAR_WITHOUT_REVIEW,
    ZONES_LEFT,
)
from wbctool.text import display_name, pluralize
from wbctool.types.cells import Outcome, Reason
from wbctool.types.differential import Flag
from wbctool.types.results import Provenance, SlideResult, SlideStatus, count_failed_fields, suspects_all_fields
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import FieldQuality

_REFERENCE_CELLS = "200"  # CLSI H20, of each examiner; where the settings of a run are not recorded


@dataclass(frozen=True, slots=True)
class FieldRemark:
    """A remark on the quality of one or more fields.

    Attributes:
        text: The remark.
        sources: What it is about: fields, or where a wrong scale comes from.
    """

    text: str
    sources: tuple[str, ...]


def find_result_severity(result: SlideResult) -> str:
    """Return how much attention a slide needs, a key of ``strings.SEVERITIES``."""
    differential = result.differential
    has_out_of_range = any(count.flag or (count.absolute and count.absolute.flag) for count in differential.classes)
    has_other_remarks = bool(result.failures or has_out_of_range)
    return find_severity(
        result.status, differential.flags, differential.review, has_other_remarks, bool(result.reviews)
    )


def find_severity(
    status: SlideStatus, flags: Iterable[str], in_review: int, has_other_remarks: bool, is_reviewed: bool
) -> str:
    """Return how much attention a slide needs, a key of ``strings.SEVERITIES``.

    Args:
        status: Its status, not ``waiting``.
        flags: Its flags. ``limited_count`` alone, which nearly every slide of 100 cells has, asks for no reader.
        in_review: The number of its cells in review.
        has_other_remarks: Whether fields failed, or values are low or high.
        is_reviewed: Whether a reader has reviewed it.
    """
    if status is SlideStatus.FAILED:
        return "failed"
    if is_reviewed and not in_review:
        return "reviewed"
    return "check" if in_review or has_other_remarks or set(flags) - {Flag.LIMITED_COUNT} else "clear"


def summary_sentence(result: SlideResult) -> str:
    """Return one sentence on the slide: how many cells were counted, or why none was."""
    differential, clause = result.differential, failed_fields_clause(result)
    if result.status is SlideStatus.FAILED:
        return strings.VERDICT_FAILED
    if not differential.counted and differential.review:
        return strings.VERDICT_ALL_IN_REVIEW.format(failed_fields=clause, review=differential.review)
    if not differential.counted:
        return strings.VERDICT_NO_WBC.format(failed_fields=clause)
    in_review = strings.VERDICT_REVIEW.format(review=differential.review) if differential.review else ""
    if Flag.UNFAMILIAR in differential.flags:
        sentence = strings.VERDICT_UNFAMILIAR_REVIEWED if result.reviews else strings.VERDICT_UNFAMILIAR
    else:
        sentence = strings.VERDICT_LOW_COUNT if Flag.LOW_COUNT in differential.flags else strings.VERDICT
    return sentence.format(
        counted=differential.counted,
        named=count_named_cells(result),
        failed_fields=clause,
        in_review=in_review,
        not_yet=strings.NOT_YET if differential.review else "",
    )


def count_named_cells(result: SlideResult) -> int:
    """Count the counted cells whose class is a reader's, not the tool's."""
    predictions = {note: result.cells[note.row - 1].prediction for note in result.notes}
    return sum(p.outcome is Outcome.COUNTED and category_of(p) != note.original for note, p in predictions.items())


def failed_fields_clause(result: SlideResult) -> str:
    """Return the part of the verdict that names the failed fields; empty if no field failed."""
    failed = count_failed_fields(result.failures)
    return strings.VERDICT_FAILED_FIELDS.format(failed=failed, fields=result.fields) if failed else ""


def finding_links(result: SlideResult) -> list[tuple[str, str]]:
    """Return what must not be missed in a report, as (what and how many cells, id of the group that shows them)."""
    predictions = [cell.prediction for cell in result.cells]
    counts = {
        Flag.POSSIBLE_BLASTS: (sum(p.reason is Reason.POSSIBLE_BLAST for p in predictions), "review-possible_blast"),
        Flag.IMMATURE_GRANULOCYTES: (
            sum(category_of(p) == CellClass.IMMATURE_GRANULOCYTE for p in predictions),
            CellClass.IMMATURE_GRANULOCYTE.value,
        ),
        Flag.NRBC: (result.differential.erythroblasts, CellClass.ERYTHROBLAST.value),
    }
    return [
        (strings.VERDICT_FINDINGS[flag].format(n=n), f"group-{group}")
        for flag, (n, group) in counts.items()
        if flag in result.differential.flags
    ]


def low_count_threshold(result: SlideResult, provenance: Provenance) -> int:
    """Return the smallest count without the ``low_count`` flag.

    The script of the page needs it because a reader's changes can cross that threshold. If the settings of the run are
    not recorded, the returned number leaves the verdict as it is.
    """
    setting = dict(provenance.settings).get("low_count_below")
    if setting is not None:
        return int(setting)
    return result.differential.cells + 1 if Flag.LOW_COUNT in result.differential.flags else 0


def findings(result: SlideResult) -> list[tuple[str, str]]:
    """Return the findings as (key, sentence): percentages and absolute counts out of range, then flags on the blood."""
    out_of_range = [
        (
            f"{count.label.value}_{count.flag}",
            strings.OUT_OF_REFERENCE_RANGE.format(
                label=strings.humanize(count.label.value).capitalize(),
                flag=count.flag,
                percent=strings.show_percent(count.percent),
                low=count.reference_low,
                high=count.reference_high,
            ),
        )
        for count in result.differential.classes
        if count.flag
    ]
    out_of_range += [
        (
            f"{count.label.value}_absolute_{count.absolute.flag}",
            strings.OUT_OF_ABSOLUTE_RANGE.format(
                label=strings.humanize(count.label.value).capitalize(),
                flag=count.absolute.flag,
                value=count.absolute.value,
                low=count.absolute.reference_low,
                high=count.absolute.reference_high,
            ),
        )
        for count in result.differential.classes
        if count.absolute and count.absolute.flag
    ]
    return out_of_range + [(flag, FLAG_TEXTS[flag]) for flag in result.differential.flags if flag in FINDING_FLAGS]


def limitations(result: SlideResult, provenance: Provenance) -> list[tuple[str, str]]:
    """Return the limitations of the count as (key, what it means): flags, and the stricter rule of a small slide."""
    flags = [flag for flag in result.differential.flags if flag not in FINDING_FLAGS]
    if result.status is SlideStatus.FAILED:  # more fields would not help
        flags = [flag for flag in flags if flag is not Flag.LOW_COUNT]
    remedy = ZONES_LEFT if result.scan is not None and result.scan.zones_not_needed else NO_ZONES_LEFT
    needed = dict(provenance.settings).get("limited_count_below", _REFERENCE_CELLS)
    values = {"remedy": remedy, "counted": result.differential.counted, "needed": needed}
    texts = FLAG_TEXTS if result.scan is None else FLAG_TEXTS | SCAN_FLAG_TEXTS
    texts = {flag: text.format(**values) for flag, text in texts.items()}
    duplicates = {quality.field for quality in result.quality if quality.duplicate_of}
    if duplicates and not any(cell.field in duplicates for cell in result.cells):
        texts = texts | {Flag.DUPLICATE_FIELDS: strings.DUPLICATES_COUNTED_ONCE}
    if not result.differential.review:
        texts = texts | {Flag.UNFAMILIAR: UNFAMILIAR_WITHOUT_REVIEW}
    rows: list[tuple[str, str]] = [(flag, texts[flag]) for flag in flags]
    if suspects_all_fields(result.failures, result.fields - count_failed_fields(result.failures)):
        # The images must be mended; these would have the models or the cells be looked at, or fields be added.
        misleading = {Flag.UNFAMILIAR, Flag.LOW_COUNT, Flag.HIGH_REVIEW_SHARE, Flag.OUT_OF_DOMAIN}
        rows = [("wrongly_saved", strings.WRONGLY_SAVED), *(row for row in rows if row[0] not in misleading)]
    familiarity = result.familiarity
    if familiarity is not None and familiarity.cells and familiarity.is_familiar is None:
        rows.append(("small_slide", strings.SMALL_SLIDE.format(cells=pluralize(familiarity.cells, "cell"))))
    return rows


def metadata_rows(result: SlideResult) -> list[tuple[str, str]]:
    """Return the entries of slides.csv for this slide as (label, value), without empty ones."""
    if result.metadata is None:
        return []
    values = ((label, getattr(result.metadata, name)) for name, label in strings.METADATA_LABELS.items())
    return [
        (label, f"{value:g}" if isinstance(value, float) else str(value))
        for label, value in values
        if value not in {None, ""}
    ]


def scan_sentence(scan: ScanSummary) -> str:
    """Return how many zones of a scan were looked at."""
    return strings.SCAN_SENTENCE.format(zones=pluralize(scan.zones, "zone"), looked_at=scan.zones_looked_at)


def scan_lines(scan: ScanSummary) -> list[str]:
    """Return what is known of a scan's scale, and why the other zones were not looked at."""
    lines = []
    if scan.um_per_px is not None:
        cells_um = scan.um_per_px * scan.downsample
        lines.append(strings.SCAN_SCALE.format(um_per_px=scan.um_per_px, source=scan.scale_source, cells_um=cells_um))
    if scan.passed_over:
        reasons = ", ".join(f"{n} {reason}" for reason, n in scan.passed_over.items())
        lines.append(strings.SCAN_PASSED_OVER.format(reasons=reasons))
    if scan.zones_not_needed:
        lines.append(strings.SCAN_NOT_NEEDED.format(n=scan.zones_not_needed))
    return lines


def field_remarks(result: SlideResult, provenance: Provenance) -> list[FieldRemark]:
    """Return the remarks on quality: on slides.csv or the metadata if they are wrong, then on fields.

    Fields with the same remark share one, with the range of their values.
    """
    remarks = []
    diameters_um = [q.red_cell_um for q in result.quality if q.scale_mismatch and q.red_cell_um is not None]
    if diameters_um:
        is_given = result.metadata is not None and result.metadata.um_per_px is not None
        source = SLIDES_CSV if is_given else strings.IMAGE_METADATA
        text = strings.FIELD_REMARKS["scale_mismatch"].format(red_cell_um=median(diameters_um))
        remarks.append(FieldRemark(text, (source,)))
    for quality in result.quality:
        remarks += [FieldRemark(text, (quality.field,)) for text in _overlap_remarks(quality)]
    return [*remarks, *_measured_remarks(result.quality, dict(provenance.settings))]


def _overlap_remarks(quality: FieldQuality) -> Iterator[str]:
    """Yield the remarks on what one field has in common with others."""
    if quality.duplicate_of:
        yield strings.FIELD_REMARKS["duplicate_of"].format(field=display_name(quality.duplicate_of))
    for field, n_cells in quality.counted_elsewhere.items():
        yield strings.FIELD_REMARKS["counted_elsewhere"].format(
            field=display_name(field), cells=pluralize(n_cells, "cell")
        )


def _measured_remarks(qualities: Sequence[FieldQuality], settings: Mapping[str, str]) -> Iterator[FieldRemark]:
    """Yield the remarks on measured values; the limits are named if the settings of the run are recorded."""
    values_by_remark = {
        "blurred": {q.field: q.blur_um for q in qualities if q.blurred and q.blur_um is not None},
        "crowded": {q.field: 100 * q.coverage for q in qualities if q.crowded and q.coverage is not None},
        "stain_out_of_range": {
            q.field: q.stain_delta_e for q in qualities if q.stain_out_of_range and q.stain_delta_e is not None
        },
    }
    limits = {"crowded": ("max_coverage", 100), "stain_out_of_range": ("max_stain_delta_e", 1)}
    for remark, values in values_by_remark.items():
        setting, factor = limits.get(remark, ("", 1))
        limit = strings.FIELD_LIMITS[remark].format(factor * float(settings[setting])) if setting in settings else ""
        if len(values) == 1:
            ((field, value),) = values.items()
            yield FieldRemark(strings.FIELD_REMARKS[remark].format(value=value, limit=limit), (field,))
        elif values:
            text, low, high = strings.SHARED_FIELD_REMARKS[remark], min(values.values()), max(values.values())
            yield FieldRemark(text.format(n=len(values), low=low, high=high, limit=limit), tuple(values))

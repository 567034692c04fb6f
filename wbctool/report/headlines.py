"""What a report says first: how the slide stands, what was found, whose it is, and which fields to look at twice."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from wbctool.layout import SLIDES_CSV, name_shown
from wbctool.report import texts
from wbctool.report.tables import failed_fields, percent
from wbctool.slide_facts import FieldQuality
from wbctool.slide_results import Provenance, SlideResult, SlideStatus


def level(result: SlideResult) -> str:
    """Of texts.LEVELS."""
    if result.status is SlideStatus.FAILED:
        return "failed"
    differential = result.differential
    beyond = any(count.flag or (count.absolute and count.absolute.flag) for count in differential.classes)
    return "check" if differential.flags or differential.review or result.failures or beyond else "clear"


def verdict(result: SlideResult) -> str:
    """The slide in one sentence."""
    differential, without = result.differential, without_fields(result)
    if result.status is SlideStatus.FAILED:
        return texts.VERDICT_FAILED
    if not differential.counted and differential.review:
        return texts.VERDICT_ALL_IN_REVIEW.format(without=without, review=differential.review)
    if not differential.counted:
        return texts.VERDICT_NO_WBC.format(without=without)
    review = texts.VERDICT_REVIEW.format(review=differential.review) if differential.review else ""
    sentence = texts.VERDICT_LOW if "low_count" in differential.flags else texts.VERDICT
    return sentence.format(counted=differential.counted, without=without, review=review)


def without_fields(result: SlideResult) -> str:
    """What a verdict says of the fields that failed; empty where none did."""
    failed = failed_fields(result)
    return texts.VERDICT_WITHOUT.format(failed=failed, fields=result.fields) if failed else ""


def least_counted(result: SlideResult, provenance: Provenance) -> int:
    """From how many counted cells on a slide has no low_count: a reader's moves may pass that number.

    Where the settings at hand do not have it, a number that leaves the verdict as it is.
    """
    setting = dict(provenance.settings).get("min_counted")
    if setting is not None:
        return int(setting)
    return result.differential.cells + 1 if "low_count" in result.differential.flags else 0


def findings(result: SlideResult) -> list[tuple[str, str]]:
    """What is said of the blood: percents and absolute counts outside their range, then flags, each with its words."""
    beyond = [
        (
            f"{count.label.value}_{count.flag}",
            texts.AGAINST_REFERENCE.format(
                label=texts.words(count.label.value).capitalize(),
                flag=count.flag,
                percent=percent(count.percent),
                low=count.reference_low,
                high=count.reference_high,
            ),
        )
        for count in result.differential.classes
        if count.flag
    ]
    beyond += [
        (
            f"{count.label.value}_absolute_{count.absolute.flag}",
            texts.AGAINST_ABSOLUTE.format(
                label=texts.words(count.label.value).capitalize(),
                flag=count.absolute.flag,
                value=count.absolute.value,
                low=count.absolute.reference_low,
                high=count.absolute.reference_high,
            ),
        )
        for count in result.differential.classes
        if count.absolute and count.absolute.flag
    ]
    return beyond + [(flag, texts.FLAGS[flag]) for flag in result.differential.flags if flag in texts.FINDINGS]


def about(result: SlideResult) -> list[tuple[str, str]]:
    """What slides.csv says of slide and patient, where it says it."""
    if result.metadata is None:
        return []
    values = ((words, getattr(result.metadata, name)) for name, words in texts.ABOUT.items())
    return [
        (words, f"{value:g}" if isinstance(value, float) else str(value))
        for words, value in values
        if value not in {None, ""}
    ]


def remarks(result: SlideResult) -> Iterator[tuple[str, str]]:
    """What is to be said of slides.csv, once, and of a field, of most nothing: (of which, what)."""
    sizes_um = [q.red_cell_um for q in result.quality if q.misscaled and q.red_cell_um is not None]
    if sizes_um:
        yield SLIDES_CSV, texts.REMARKS["misscaled"].format(red_cell_um=median(sizes_um))
    for quality in result.quality:
        for remark in _remarks(quality):
            yield quality.field, remark


def _remarks(quality: FieldQuality) -> Iterator[str]:
    if quality.same_as:
        yield texts.REMARKS["same_as"].format(field=name_shown(quality.same_as))
    if quality.blurred and quality.blur_um is not None:
        yield texts.REMARKS["blurred"].format(blur_um=quality.blur_um)
    if quality.crowded and quality.cover is not None:
        yield texts.REMARKS["crowded"].format(cover=100 * quality.cover)
    if quality.strange and quality.stain_de is not None:
        yield texts.REMARKS["strange"].format(stain_de=quality.stain_de)

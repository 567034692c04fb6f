"""What a report says first: how the slide stands, what was found, whose it is, and which fields to look at twice."""

from __future__ import annotations

from collections.abc import Iterator

from wbctool.layout import name_shown
from wbctool.records import SlideResult, SlideStatus
from wbctool.report import texts
from wbctool.report.tables import percent
from wbctool.slide_facts import FieldQuality


def level(result: SlideResult) -> str:
    """Of texts.LEVELS."""
    if result.status is SlideStatus.FAILED:
        return "failed"
    return "check" if result.differential.flags or result.differential.review or result.failures else "clear"


def verdict(result: SlideResult) -> str:
    """The slide in one sentence."""
    differential, failed = result.differential, sum(bool(failure.field) for failure in result.failures)
    if result.status is SlideStatus.FAILED:
        return texts.VERDICT_FAILED
    without = texts.VERDICT_WITHOUT.format(failed=failed, fields=result.fields) if failed else ""
    if not differential.counted and differential.review:
        return texts.VERDICT_ALL_IN_REVIEW.format(without=without, review=differential.review)
    if not differential.counted:
        return texts.VERDICT_NO_WBC.format(without=without)
    review = texts.VERDICT_REVIEW.format(review=differential.review) if differential.review else ""
    return sentence(result).format(counted=differential.counted, without=without, review=review)


def sentence(result: SlideResult) -> str:
    """The verdict of a slide with counted cells, to be filled in."""
    return texts.VERDICT_LOW if "low_count" in result.differential.flags else texts.VERDICT


def findings(result: SlideResult) -> list[tuple[str, str]]:
    """What is said of the blood: percents outside their range, then flags, each with its words."""
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
    return beyond + [(flag, texts.FLAGS[flag]) for flag in result.differential.flags if flag in texts.FINDINGS]


def about(result: SlideResult) -> list[tuple[str, str]]:
    """What slides.csv says of slide and patient, where it says it."""
    if result.metadata is None:
        return []
    values = ((words, getattr(result.metadata, name)) for name, words in texts.ABOUT.items())
    return [(words, f"{value:g}" if isinstance(value, float) else str(value)) for words, value in values if value]


def remarks(quality: FieldQuality) -> Iterator[str]:
    """What is to be said of a field; nothing of most."""
    if quality.same_as:
        yield texts.REMARKS["same_as"].format(field=name_shown(quality.same_as))
    if quality.blurred and quality.blur_um is not None:
        yield texts.REMARKS["blurred"].format(blur_um=quality.blur_um)
    if quality.crowded and quality.cover is not None:
        yield texts.REMARKS["crowded"].format(cover=100 * quality.cover)
    if quality.strange and quality.stain_de is not None:
        yield texts.REMARKS["strange"].format(stain_de=quality.stain_de)
    if quality.misscaled and quality.red_cell_um is not None:
        yield texts.REMARKS["misscaled"].format(red_cell_um=quality.red_cell_um)

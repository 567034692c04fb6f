"""Verification of the models with a laboratory's own manual differentials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wbctool.datasets.manual_differentials import ManualDifferential
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.evaluation.classification import is_learned
from wbctool.evaluation.proportion import Proportion
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.model_card import CellClassifierCard
from wbctool.limits import Limits
from wbctool.text import pluralize
from wbctool.types.cells import Box
from wbctool.types.differential import Differential
from wbctool.types.results import SlideResult
from wbctool.verification.agreement import BlandAltman, fisher_agrees
from wbctool.verification.criteria import (
    MIN_SLIDES,
    VerificationResult,
    conclude,
    criterion_bias,
    criterion_review,
    criterion_sampling_error,
)

if TYPE_CHECKING:
    import pandas as pd

_PAIR_COLUMNS = ("slide", "label", "tool_n", "tool_total", "tool_percent", "reader_n", "reader_total", "reader_percent")


@dataclass(frozen=True, slots=True)
class SlideVerification:
    """A verification with slides that have a manual differential.

    Attributes:
        verdict: The conclusion and its criteria.
        slides: Number of slides that were compared.
        complete_slides: Number of slides of which tool and reader each counted enough cells for a differential.
        within_sampling_error: The pairs of a complete slide and a class that differ by no more than sampling explains,
            among those of which tool or reader counted a cell; None if there are none.
        bland_altman: The comparison of each class over all slides.
        notes: What was left out.
    """

    verdict: VerificationResult
    slides: int
    complete_slides: int
    within_sampling_error: Proportion | None
    bland_altman: tuple[BlandAltman, ...]
    notes: tuple[str, ...]


def find_learned_slides(
    results: Iterable[SlideResult], images: Mapping[tuple[str, str], Path], card: CellClassifierCard
) -> frozenset[str]:
    """Find the slides that adapted models have learned from, by the pixels of their cells.

    Args:
        results: The slides as a run has published them.
        images: The path of each image by slide and field. Zones of whole-slide scans, which teach no models, are not
            among them.
        card: The card of the classifier.

    Returns:
        The ids of the slides.
    """
    if card.adaptation is None:
        return frozenset()
    return frozenset(result.slide for result in results if _has_learned_cell(result, images, card))


def _has_learned_cell(result: SlideResult, images: Mapping[tuple[str, str], Path], card: CellClassifierCard) -> bool:
    """Return whether an adapted classifier has learned from a cell of a slide."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    for cell in result.cells:
        boxes[cell.field].append(cell.detection.box)
    for field, of_field in boxes.items():
        path = images.get((result.slide, field))
        if path is None:
            continue
        try:
            image = read_field(path)
        except FieldUnreadable:  # it has changed since the run
            continue
        if any(is_learned(crop, card) for crop in crop_cells(image, of_field, card.crop_margin)):
            return True
    return False


def compare_slides(
    manual: Mapping[str, ManualDifferential], automated: Mapping[str, Differential], learned: Collection[str] = ()
) -> SlideVerification:
    """Compare a reader's differentials with the tool's, slide by slide and class by class.

    Args:
        manual: The reader's differentials by slide id.
        automated: The tool's differentials by slide id.
        learned: The slides that the models have learned from, which are left out.

    Returns:
        The verification. Its criteria are of the complete slides alone, its Bland-Altman comparison of all.

    Raises:
        LabelledDataInvalid: No slide has both.

    References:
        CLSI H20, reference leukocyte differential count, on the sampling error of differentials (after Rümke).
    """
    compared = [slide for slide in manual if slide in automated and automated[slide].counted and slide not in learned]
    notes = _describe_omissions(manual, automated, learned)
    if not compared:
        raise LabelledDataInvalid(
            "; ".join(["no slide is left with both a reader's differential and counted cells", *notes])
        )
    min_counted = int(Limits.model_fields["low_count_below"].default)
    complete = [slide for slide in compared if min(automated[slide].counted, manual[slide].counted) >= min_counted]
    if n_incomplete := len(compared) - len(complete):
        notes.append(
            f"not in the verdict: {pluralize(n_incomplete, 'slide')} with fewer than {min_counted} cells counted "
            "by the tool or the reader"
        )
    pairs = _pair_counts(compared, manual, automated)
    complete_pairs = pairs[pairs["slide"].isin(complete)]
    within_sampling_error = _proportion_within_sampling_error(complete_pairs)
    criteria = [
        *([criterion_sampling_error(within_sampling_error)] if within_sampling_error else []),
        *map(criterion_bias, _compare_percents(complete_pairs)),
        *([criterion_review(review)] if (review := _review_proportion(complete, automated)) else []),
    ]
    shortfall = f"{pluralize(len(complete), 'slide')} with {min_counted} counted cells; {MIN_SLIDES} needed"
    return SlideVerification(
        verdict=conclude(criteria, "" if len(complete) >= MIN_SLIDES else shortfall),
        slides=len(compared),
        complete_slides=len(complete),
        within_sampling_error=within_sampling_error,
        bland_altman=_compare_percents(pairs),
        notes=tuple(notes),
    )


def _describe_omissions(
    manual: Mapping[str, ManualDifferential], automated: Mapping[str, Differential], learned: Collection[str]
) -> list[str]:
    """Return a note on each slide that is left out."""
    return [
        *(f"{slide} is left out: no such slide, or it failed" for slide in manual if slide not in automated),
        *(f"{slide} is left out: no reader's differential" for slide in automated if slide not in manual),
        *(
            f"{slide} is left out: no cell was counted"
            for slide in manual
            if slide in automated and not automated[slide].counted
        ),
        *(
            f"{slide} is left out: the models were adapted with cells of it"
            for slide in manual
            if slide in learned and automated[slide].counted
        ),
    ]


def _pair_counts(
    slides: Collection[str], manual: Mapping[str, ManualDifferential], automated: Mapping[str, Differential]
) -> pd.DataFrame:
    """Return one row for each slide and each class that tool and reader both assessed."""
    import pandas as pd  # late: only this comparison needs it

    rows = [
        (
            *(slide, count.label.value, count.n, automated[slide].counted, count.percent),
            *(reader.cell_count(count.label), reader.counted, reader.percents[count.label]),
        )
        for slide in slides
        for reader in (manual[slide],)
        for count in automated[slide].classes
        if count.assessed and count.percent is not None and count.label in reader.percents
    ]
    return pd.DataFrame(rows, columns=list(_PAIR_COLUMNS))


def _proportion_within_sampling_error(pairs: pd.DataFrame) -> Proportion | None:
    """Return the pairs that differ by no more than sampling explains, among those with a cell of the class."""
    found = pairs[(pairs["tool_n"] > 0) | (pairs["reader_n"] > 0)]
    counts = found[["tool_n", "tool_total", "reader_n", "reader_total"]].itertuples(index=False)
    agrees = np.array([fisher_agrees(*map(int, count)) for count in counts], dtype=np.bool_)
    return Proportion.estimate(agrees, found["slide"].tolist())


def _compare_percents(pairs: pd.DataFrame) -> tuple[BlandAltman, ...]:
    """Return the comparison of each class with at least two slides."""
    comparisons = (
        BlandAltman.from_percents(str(label), of_class["tool_percent"].tolist(), of_class["reader_percent"].tolist())
        for label, of_class in pairs.groupby("label", sort=False)
    )
    return tuple(comparison for comparison in comparisons if comparison is not None)


def _review_proportion(slides: Collection[str], automated: Mapping[str, Differential]) -> Proportion | None:
    """Return the cells left to a reader among the counted ones and these, as the flag has it; None without any."""
    judged = {slide: automated[slide].counted + automated[slide].review for slide in sorted(slides)}
    is_review = [n < automated[slide].review for slide, n_cells in judged.items() for n in range(n_cells)]
    groups = [slide for slide, n_cells in judged.items() for _ in range(n_cells)]
    return Proportion.estimate(np.array(is_review, dtype=np.bool_), groups)

"""The judgment of a whole slide: the quality of its fields, whether it is familiar, and what is counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from wbctool.inference.familiarity_rule import FamiliarityRule
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.stages.cell_size import add_diameters
from wbctool.stages.differential import count_cells
from wbctool.stages.familiarity import familiarity_flags, judge_familiarity
from wbctool.stages.quality import apply_quality_limits, compute_quality_flags
from wbctool.types.cells import Cell, Reason
from wbctool.types.differential import Differential, Flag
from wbctool.types.scans import ScanSummary
from wbctool.types.slides import Familiarity, FieldQuality


@dataclass(frozen=True, slots=True)
class SlideJudgment:
    """What is known of a slide once all of its fields have been looked at.

    Attributes:
        cells: The cells in order, with what becomes of them.
        quality: The quality of each field, with its marks.
        familiarity: Whether the slide is familiar; None if the models do not measure it.
        differential: The count with its flags.
    """

    cells: tuple[Cell, ...]
    quality: tuple[FieldQuality, ...]
    familiarity: Familiarity | None
    differential: Differential


def judge_slide(
    cells: Sequence[Cell],
    quality: Sequence[FieldQuality],
    rule: FamiliarityRule | None,
    model_classes: Sequence[CellClass],
    limits: Limits,
    *,
    n_read: int,
    field_flags: Collection[Flag] = (),
    is_wrongly_saved: bool = False,
    scan: ScanSummary | None = None,
) -> SlideJudgment:
    """Judge a slide.

    Args:
        cells: The cells of all fields, with the readers' predictions.
        quality: The measured quality of each field.
        rule: When a slide is familiar, and what is counted on another one; None if the models do not measure it.
        model_classes: The classes that the readers know.
        limits: The slide's limits.
        n_read: The number of fields that could be read.
        field_flags: The flags that the fields' files raise.
        is_wrongly_saved: Whether so many fields have wrong colors or pixels in disorder that the others probably have,
            too. All cells then go to review.
        scan: What was done with a whole-slide scan; None for a folder of images.
    """
    judged_quality = apply_quality_limits(quality, limits)
    predictions, familiarity = judge_familiarity(
        [cell.prediction for cell in cells], rule, [q.stain_out_of_range for q in judged_quality]
    )
    if is_wrongly_saved:
        predictions = [prediction.sent_to_review(Reason.OUT_OF_DISTRIBUTION) for prediction in predictions]
    flags = {*field_flags, *compute_quality_flags(judged_quality, limits), *familiarity_flags(familiarity)}
    judged_cells = [replace(cell, prediction=p) for cell, p in zip(cells, predictions, strict=True)]
    return SlideJudgment(
        cells=add_diameters(judged_cells, judged_quality, scan),
        quality=judged_quality,
        familiarity=familiarity,
        differential=count_cells(predictions, model_classes, limits, flags, n_read),
    )

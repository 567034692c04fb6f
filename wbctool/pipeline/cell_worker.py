"""The second half of a field's way: classify the cells of several fields, of any slides, together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from wbctool.imaging.thumbnails import make_super_resolved_thumbnail
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.context import RunContext, RunStopped
from wbctool.pipeline.field_worker import FieldAnalysis, make_failure
from wbctool.timing import Stage, StageTimer
from wbctool.types.cells import Cell
from wbctool.types.results import CellThumbnails, FieldFailure

_MANY_CELLS = 200  # a field with so many gets a progress of its own


@dataclass(frozen=True, slots=True)
class ClassifiedField:
    """The classified cells of one field.

    Attributes:
        cells: The cells, in the order of the detections.
        thumbnails: The thumbnails of each cell.
        failure: Why the cells could not be classified; None if they were.
        seconds: The seconds per stage.
    """

    cells: tuple[Cell, ...] = ()
    thumbnails: tuple[CellThumbnails, ...] = ()
    failure: FieldFailure | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def batch_fields(fields: Iterable[FieldAnalysis], batch_size: int) -> Iterator[tuple[FieldAnalysis, ...]]:
    """Group fields in order, so that a group has at most ``batch_size`` cells; a field with more is a group alone.

    A group has no more fields than that either: slides of fields without cells would wait for the next cells.
    """
    batch: list[FieldAnalysis] = []
    n_cells = 0
    for analysis in fields:
        if batch and n_cells + len(analysis.crops) > batch_size:
            yield tuple(batch)
            batch, n_cells = [], 0
        batch.append(analysis)
        n_cells += len(analysis.crops)
        if n_cells >= batch_size or len(batch) >= batch_size:
            yield tuple(batch)
            batch, n_cells = [], 0
    if batch:
        yield tuple(batch)


def classify_fields(
    context: RunContext, stages: BoundStages, fields: Sequence[FieldAnalysis]
) -> tuple[ClassifiedField, ...] | None:
    """Classify the cells of some fields together.

    If that fails, each field is tried alone, so that only the field at fault is lost. This function raises nothing.

    Args:
        context: The run.
        stages: The stages with their models.
        fields: The analyzed fields.

    Returns:
        One result per field, in order; None if the run was asked to stop.
    """
    timer = StageTimer()
    try:
        return _classify_batches(context, stages, fields, timer)
    except RunStopped:
        return None
    except Exception as error:  # any error is a field's alone
        if len(fields) == 1:
            (analysis,) = fields
            failure = make_failure(analysis.slide, analysis.name, timer.stage or Stage.CLASSIFY, error)
            return (ClassifiedField(failure=failure, seconds=timer.seconds),)
    results: list[ClassifiedField] = []
    for analysis in fields:
        classified = classify_fields(context, stages, [analysis])
        if classified is None:
            return None
        results += classified
    return tuple(results)


def _classify_batches(
    context: RunContext, stages: BoundStages, fields: Sequence[FieldAnalysis], timer: StageTimer
) -> tuple[ClassifiedField, ...]:
    """Classify all cells of the fields, ``cells_per_batch`` at a time."""
    all_cells = [
        (field_index, cell_index, detection, crop, native)
        for field_index, analysis in enumerate(fields)
        for cell_index, (detection, crop, native) in enumerate(
            zip(analysis.detections, analysis.crops, analysis.thumbnails, strict=True), start=1
        )
    ]
    cells_by_field: list[list[tuple[Cell, CellThumbnails]]] = [[] for _ in fields]
    has_many = len(all_cells) >= _MANY_CELLS
    cells = iter(context.track(all_cells, len(all_cells), f"{fields[0].name}: cells") if has_many else all_cells)
    while batch := list(itertools.islice(cells, context.cells_per_batch)):
        if context.should_stop():
            raise RunStopped
        with timer(Stage.PREPROCESS):
            inputs = stages.preprocess([crop for *_, crop, _ in batch])
        with timer(Stage.CLASSIFY):
            predictions = stages.classify(inputs.rgb)
        with timer(Stage.THUMBNAIL):
            pairs = zip(inputs.rgb, inputs.super_resolved, strict=True)
            sr_thumbnails = [make_super_resolved_thumbnail(rgb) if used else b"" for rgb, used in pairs]
        for (field_index, cell_index, detection, _, native), super_resolved, prediction, sr_thumbnail in zip(
            batch, inputs.super_resolved, predictions, sr_thumbnails, strict=True
        ):
            cell = Cell(fields[field_index].name, cell_index, detection, super_resolved, prediction)
            cells_by_field[field_index].append((cell, CellThumbnails(native, sr_thumbnail)))
    return tuple(
        ClassifiedField(
            cells=tuple(cell for cell, _ in field_cells),
            thumbnails=tuple(thumbnails for _, thumbnails in field_cells),
            seconds={stage: s * len(field_cells) / max(1, len(all_cells)) for stage, s in timer.seconds.items()},
        )
        for field_cells in cells_by_field
    )

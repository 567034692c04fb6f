"""The cells of a few fields, of whatever slides, named together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from wbctool.imaging.thumbnails import make_super_resolved_thumbnail
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.field_worker import FieldAnalysis, make_failure
from wbctool.timing import StageTimer
from wbctool.types.cells import Cell
from wbctool.types.results import CellThumbnails, FieldFailure


class _Cancelled(Exception):
    """The run was asked to stop meanwhile."""


@dataclass(frozen=True, slots=True)
class ClassifiedField:
    """A field's cells with their classes, and their pictures; or why there are none. seconds: by stage."""

    cells: tuple[Cell, ...] = ()
    thumbnails: tuple[CellThumbnails, ...] = ()
    failure: FieldFailure | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def batch_fields(fields: Iterable[FieldAnalysis], batch_size: int) -> Iterator[tuple[FieldAnalysis, ...]]:
    """The fields in order, in groups of at most ``batch_size`` cells; a field with more is a group of its own."""
    batch: list[FieldAnalysis] = []
    n_cells = 0
    for analysis in fields:
        if batch and n_cells + len(analysis.crops) > batch_size:
            yield tuple(batch)
            batch, n_cells = [], 0
        batch.append(analysis)
        n_cells += len(analysis.crops)
        if n_cells >= batch_size:
            yield tuple(batch)
            batch, n_cells = [], 0
    if batch:
        yield tuple(batch)


@dataclass(frozen=True, slots=True)
class BatchClassifier:
    """What it takes to name cells. batch_size: of a large field, so many between two looks at ``should_stop``."""

    stages: BoundStages
    batch_size: int
    should_stop: Callable[[], bool]

    def classify(self, fields: Sequence[FieldAnalysis]) -> tuple[ClassifiedField, ...] | None:
        """One result a field, in order; None where the run was stopped. Raises nothing.

        Where they fail together each field is tried alone, so that only the one at fault is lost.
        """
        timer = StageTimer()
        try:
            return self._classify_batch(fields, timer)
        except _Cancelled:
            return None
        except Exception as error:
            if len(fields) == 1:
                (analysis,) = fields
                return (
                    ClassifiedField(
                        failure=make_failure(analysis.slide, analysis.name, timer.stage, error), seconds=timer.seconds
                    ),
                )
        results: list[ClassifiedField] = []
        for analysis in fields:
            classified = self.classify([analysis])
            if classified is None:
                return None
            results += classified
        return tuple(results)

    def _classify_batch(self, fields: Sequence[FieldAnalysis], timer: StageTimer) -> tuple[ClassifiedField, ...]:
        all_cells = [
            (place, index, detection, crop, native)
            for place, analysis in enumerate(fields)
            for index, (detection, crop, native) in enumerate(
                zip(analysis.detections, analysis.crops, analysis.thumbnails, strict=True), start=1
            )
        ]
        cells_by_field: list[list[tuple[Cell, CellThumbnails]]] = [[] for _ in fields]
        for start in range(0, len(all_cells), self.batch_size):
            if self.should_stop():
                raise _Cancelled
            batch = all_cells[start : start + self.batch_size]
            with timer("prepare"):
                inputs = self.stages.preprocess([crop for *_, crop, _ in batch])
            with timer("classify"):
                predictions = self.stages.classify(inputs.rgb)
            with timer("picture"):
                pairs = zip(inputs.rgb, inputs.super_resolved, strict=True)
                sr_thumbnails = [make_super_resolved_thumbnail(rgb) if used else b"" for rgb, used in pairs]
            for (place, index, detection, _, native), used, prediction, picture in zip(
                batch, inputs.super_resolved, predictions, sr_thumbnails, strict=True
            ):
                cell = Cell(fields[place].name, index, detection, used, prediction)
                cells_by_field[place].append((cell, CellThumbnails(native, picture)))
        return tuple(
            ClassifiedField(
                cells=tuple(cell for cell, _ in field_cells),
                thumbnails=tuple(picture for _, picture in field_cells),
                seconds={stage: s * len(field_cells) / max(1, len(all_cells)) for stage, s in timer.seconds.items()},
            )
            for field_cells in cells_by_field
        )

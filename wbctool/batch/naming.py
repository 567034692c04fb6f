"""The cells of a few fields, of whatever slides, named together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from wbctool.batch.clock import StageClock
from wbctool.batch.looking import Looked, failure_of
from wbctool.batch.stages import Stages
from wbctool.records import Cell
from wbctool.report.pictures import enhanced_picture
from wbctool.slide_results import CellPicture, FieldFailure


class _Stopped(Exception):
    """The run was asked to stop meanwhile."""


@dataclass(frozen=True, slots=True)
class Named:
    """A field's cells with their classes, and their pictures; or why there are none. seconds: by stage."""

    cells: tuple[Cell, ...] = ()
    pictures: tuple[CellPicture, ...] = ()
    failure: FieldFailure | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def grouped(fields: Iterable[Looked], cells_at_once: int) -> Iterator[tuple[Looked, ...]]:
    """The fields in order, in groups of at most ``cells_at_once`` cells; a field with more is a group of its own."""
    group: list[Looked] = []
    cells = 0
    for looked in fields:
        if group and cells + len(looked.crops) > cells_at_once:
            yield tuple(group)
            group, cells = [], 0
        group.append(looked)
        cells += len(looked.crops)
        if cells >= cells_at_once:
            yield tuple(group)
            group, cells = [], 0
    if group:
        yield tuple(group)


@dataclass(frozen=True, slots=True)
class CellNamer:
    """What it takes to name cells. cells_at_once: of a large field, so many between two looks at ``stopped``."""

    stages: Stages
    cells_at_once: int
    stopped: Callable[[], bool]

    def name(self, fields: Sequence[Looked]) -> tuple[Named, ...] | None:
        """One result a field, in order; None where the run was stopped. Raises nothing.

        Where they fail together each field is tried alone, so that only the one at fault is lost.
        """
        clock = StageClock()
        try:
            return self._together(fields, clock)
        except _Stopped:
            return None
        except Exception as error:
            if len(fields) == 1:
                (one,) = fields
                return (Named(failure=failure_of(one.slide, one.name, clock.stage, error), seconds=clock.seconds),)
        alone: list[Named] = []
        for one in fields:
            named = self.name([one])
            if named is None:
                return None
            alone += named
        return tuple(alone)

    def _together(self, fields: Sequence[Looked], clock: StageClock) -> tuple[Named, ...]:
        found = [
            (place, index, detection, crop, native)
            for place, looked in enumerate(fields)
            for index, (detection, crop, native) in enumerate(
                zip(looked.detections, looked.crops, looked.pictures, strict=True), start=1
            )
        ]
        named: list[list[tuple[Cell, CellPicture]]] = [[] for _ in fields]
        for start in range(0, len(found), self.cells_at_once):
            if self.stopped():
                raise _Stopped
            part = found[start : start + self.cells_at_once]
            with clock("prepare"):
                prepared = self.stages.prepare([crop for *_, crop, _ in part])
            with clock("classify"):
                predictions = self.stages.classify(prepared.rgb)
            with clock("picture"):
                shown = zip(prepared.rgb, prepared.super_resolved, strict=True)
                enhanced = [enhanced_picture(rgb) if used else b"" for rgb, used in shown]
            for (place, index, detection, _, native), used, prediction, picture in zip(
                part, prepared.super_resolved, predictions, enhanced, strict=True
            ):
                cell = Cell(fields[place].name, index, detection, used, prediction)
                named[place].append((cell, CellPicture(native, picture)))
        return tuple(
            Named(
                cells=tuple(cell for cell, _ in own),
                pictures=tuple(picture for _, picture in own),
                seconds={stage: s * len(own) / max(1, len(found)) for stage, s in clock.seconds.items()},
            )
            for own in named
        )

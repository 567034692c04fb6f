"""The stages of a run, and their timing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """What a run does with a slide, or why it could not.

    The values are stored in slide.json and run.json, so that those of earlier names stay: ``picture``, ``prepare``.
    """

    LIST = "list"
    SURVEY = "survey"
    READ = "read"
    CHECK = "check"
    DETECT = "detect"
    CROP = "crop"
    THUMBNAIL = "picture"
    QUALITY = "quality"
    PREPROCESS = "prepare"
    CLASSIFY = "classify"
    WRITE = "write"
    REPORT = "report"
    MEMORY = "memory"
    """No stage but a cause: any stage had too little of it. As no input is at fault, the next run tries again."""
    CLUSTER = "cluster"
    """No stage but a cause: any stage lost its worker. As no input is at fault, the next run tries again."""


INPUT_STAGES = frozenset({Stage.LIST, Stage.READ, Stage.CHECK})
"""The stages that fail because of the slide's files, so that another run would fail as well."""


@dataclass(slots=True)
class StageTimer:
    """Adds up the seconds spent in each stage.

    Attributes:
        seconds: The seconds per stage.
        stage: The stage that was entered last.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    stage: Stage | None = None

    @contextmanager
    def __call__(self, stage: Stage) -> Iterator[None]:
        """Time the body of a ``with`` statement as one stage."""
        self.stage, start = stage, time.perf_counter()
        try:
            yield
        finally:
            add_seconds(self.seconds, {stage: time.perf_counter() - start})


def add_seconds(total: dict[str, float], increments: Mapping[str, float]) -> None:
    """Add the seconds of each stage to ``total``."""
    for stage, seconds in increments.items():
        total[stage] = total.get(stage, 0.0) + seconds
